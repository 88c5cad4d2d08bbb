package io.r2lock.demo;

import io.r2dbc.pool.ConnectionPool;
import io.r2dbc.pool.ConnectionPoolConfiguration;
import io.r2dbc.postgresql.PostgresqlConnectionFactory;
import io.r2dbc.postgresql.PostgresqlConnectionFactoryProvider;
import io.r2dbc.spi.ConnectionFactoryOptions;
import io.r2lock.AdvisoryLocks;
import java.time.Duration;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;
import org.springframework.context.annotation.Primary;

/**
 * One database, and two ways to it: the application's pool for its queries, and r2lock's own connections for locks, so that
 * a request that holds a lock never waits for those that want one. Spring closes all of them, in reverse order.
 */
@Configuration(proxyBeanMethods = false)
class DatabaseConfiguration {

    @Bean
    PostgresServer postgresServer(DemoProperties properties) {
        String url = properties.postgres().url();
        return url.isBlank() ? EmbeddedServer.start() : new PostgresServer.Existing(url);
    }

    @Bean
    PostgresqlConnectionFactory driver(PostgresServer server) {
        ConnectionFactoryOptions options = ConnectionFactoryOptions.parse(server.url());
        return new PostgresqlConnectionFactory(PostgresqlConnectionFactoryProvider.builder(options)
                .applicationName("demo")
                .build());
    }

    @Bean
    @Primary
    ConnectionPool pool(PostgresqlConnectionFactory driver) {
        return new ConnectionPool(ConnectionPoolConfiguration.builder(driver)
                .initialSize(0)
                .maxSize(10)
                .maxAcquireTime(Duration.ofSeconds(10))
                .build());
    }

    @Bean
    AdvisoryLocks locks(PostgresqlConnectionFactory driver) {
        return AdvisoryLocks.builder(driver)
                .applicationName("r2lock-demo")
                .holdWarning(JobController.LONGEST.plusSeconds(5))
                .closeGrace(Duration.ofSeconds(2))
                .build();
    }
}

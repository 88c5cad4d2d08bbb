package io.r2lock;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.r2dbc.postgresql.PostgresqlConnectionFactory;
import io.r2dbc.postgresql.api.PostgresqlConnection;
import io.r2dbc.postgresql.client.SSLMode;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import reactor.core.publisher.Mono;

class TestServerIT {

    @Test
    void sharedServersAreTheOldestAndTheNewestMajor() {
        assertThat(TestServer.oldest().major()).isEqualTo(14);
        assertThat(TestServer.newest().major()).isEqualTo(18);
        for (TestServer server : List.of(TestServer.oldest(), TestServer.newest())) {
            assertThat(ask(server.connectionFactory(), "show server_encoding")).isEqualTo("UTF8");
            assertThat(ask(server.connectionFactory(), "show max_connections")).isEqualTo("200");
            assertThatThrownBy(server::crash).isInstanceOf(IllegalStateException.class);
        }
    }

    @ParameterizedTest
    @ValueSource(ints = 14)
    void ownServerComesBackOnItsPortWithItsSettingsAndData(int major) {
        try (TestServer server = TestServer.own(major, Map.of("max_connections", "17"))) {
            server.execute("create table kept (id int)", "insert into kept values (1)");
            server.crash();
            assertThatThrownBy(() -> server.count("select 1")).isInstanceOf(IllegalStateException.class);
            server.start();
            server.execute("insert into kept values (2)");
            server.restart();

            assertThat(server.count("select count(*) from kept")).isEqualTo(2);
            assertThat(server.query("show max_connections")).isEqualTo(List.of(Map.of("max_connections", "17")));
            server.crash(); // close() has to cope with a server that is down
        }
    }

    @ParameterizedTest
    @ValueSource(ints = 18)
    void tlsServerTakesItsUserOverTlsWithPasswordOnly(int major) {
        try (TestServer server = TestServer.ownWithTls(major)) {
            String sql = "select ssl::text from pg_stat_ssl where pid = pg_backend_pid()";
            assertThat(ask(server.connectionFactory(), sql)).isEqualTo("true");

            assertThatThrownBy(() -> ask(factory(server, SSLMode.DISABLE, null), sql))
                    .hasMessageContaining("rejects connection");
            assertThatThrownBy(() -> ask(factory(server, SSLMode.REQUIRE, "wrong"), sql))
                    .hasMessageContaining("password authentication failed");
        }
    }

    private static PostgresqlConnectionFactory factory(TestServer server, SSLMode mode, @Nullable String password) {
        var configuration = server.configuration().sslMode(mode);
        if (password != null) {
            configuration.password(password);
        }
        return new PostgresqlConnectionFactory(configuration.build());
    }

    private static @Nullable String ask(PostgresqlConnectionFactory factory, String sql) {
        return Mono.usingWhen(
                        factory.create(),
                        connection -> connection
                                .createStatement(sql)
                                .execute()
                                .flatMap(result -> result.map(row -> row.get(0, String.class)))
                                .single(),
                        PostgresqlConnection::close)
                .block();
    }
}

package io.r2lock.demo;

import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.boot.builder.SpringApplicationBuilder;
import org.springframework.boot.context.properties.ConfigurationPropertiesScan;
import org.springframework.context.ConfigurableApplicationContext;

/** Starts the demo: {@code mvn -Pdemo}. */
@SpringBootApplication
@ConfigurationPropertiesScan
public class DemoApplication {

    private static final Logger LOG = LoggerFactory.getLogger(DemoApplication.class);

    /**
     * Starts one instance, and lets it run until the process is ended.
     *
     * @param args Spring Boot's, such as {@code --server.port=8081}
     */
    public static void main(String[] args) {
        try {
            start(args);
        } catch (RuntimeException failure) {
            StartupFailure.log(LOG, failure);
            System.exit(1);
        }
    }

    /**
     * Starts one instance, which ends when its context is closed.
     *
     * @param args as for {@link #main}
     * @return the running instance
     */
    public static ConfigurableApplicationContext start(String... args) {
        return new SpringApplicationBuilder(DemoApplication.class)
                .properties("spring.config.name=demo")
                .run(args);
    }
}

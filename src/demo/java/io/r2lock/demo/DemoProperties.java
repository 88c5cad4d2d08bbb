package io.r2lock.demo;

import java.time.Duration;
import org.springframework.boot.context.properties.ConfigurationProperties;
import org.springframework.boot.context.properties.bind.DefaultValue;

/**
 * What can be set with {@code -Ddemo.…}.
 *
 * @param instance how this instance is named in the tables
 */
@ConfigurationProperties("demo")
record DemoProperties(
        String instance,
        @DefaultValue Postgres postgres,
        @DefaultValue Webhook webhook) {

    /**
     * Where the database is.
     *
     * @param url {@code r2dbc:postgresql://user:password@host:port/database}; empty: the demo starts a server of its own
     */
    record Postgres(@DefaultValue("") String url) {}

    /**
     * How deliveries are processed.
     *
     * @param patience how long one waits for another of the same id
     * @param work how long the work takes
     */
    record Webhook(
            @DefaultValue("10s") Duration patience,
            @DefaultValue("200ms") Duration work) {}
}

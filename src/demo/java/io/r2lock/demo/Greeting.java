package io.r2lock.demo;

import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import org.springframework.boot.context.event.ApplicationReadyEvent;
import org.springframework.context.event.EventListener;
import org.springframework.stereotype.Component;

/** Says, when all is ready, where to look. */
@Component
final class Greeting {

    private static final Logger LOG = LoggerFactory.getLogger(Greeting.class);

    private final PostgresServer server;
    private final Commands commands;

    Greeting(PostgresServer server, Commands commands) {
        this.server = server;
        this.commands = commands;
    }

    @EventListener(ApplicationReadyEvent.class)
    void ready() {
        LOG.info("""

                PostgreSQL:      {}
                second instance: {}
                Look at {} (Ctrl-C ends the demo)""", server.urlToTell(), commands.secondInstance(), commands.home());
    }
}

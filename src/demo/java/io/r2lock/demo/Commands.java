package io.r2lock.demo;

import org.springframework.core.env.Environment;
import org.springframework.stereotype.Component;

/** What to type in a shell to see this instance at work. */
@Component
final class Commands {

    private final Environment environment;
    private final PostgresServer server;

    Commands(Environment environment, PostgresServer server) {
        this.environment = environment;
        this.server = server;
    }

    String home() {
        return "http://localhost:" + port() + "/";
    }

    String fiftyDeliveries() {
        return "seq 50 | xargs -P 50 -I@ curl -s -w '\\n' -X POST " + home() + "webhooks/42 | sort | uniq -c";
    }

    String job() {
        return "curl -s -w '\\n' -X POST " + home() + "jobs/nightly";
    }

    String jobOnTwoInstances() {
        return "curl -s -w '\\n' -X POST " + home() + "jobs/nightly & " + "curl -s -w '\\n' -X POST http://localhost:"
                + (port() + 1) + "/jobs/nightly; wait";
    }

    String secondInstance() {
        return "mvn -Pdemo -Dserver.port=" + (port() + 1) + " -Ddemo.postgres.url=" + server.urlToTell();
    }

    /** The port that was bound, which is not the one that was asked for where that was 0. */
    private int port() {
        return environment.getRequiredProperty("local.server.port", Integer.class);
    }
}

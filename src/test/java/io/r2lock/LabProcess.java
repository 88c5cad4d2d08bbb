package io.r2lock;

import io.r2dbc.postgresql.PostgresqlConnectionConfiguration;
import io.r2dbc.postgresql.PostgresqlConnectionFactory;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;
import java.util.Objects;
import java.util.Random;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;

/**
 * A process of the lab: takes holds and logs them, until its standard input is closed or its time is over.
 *
 * <p>Its input is closed when the test ends, however it ends.
 */
final class LabProcess {

    private static final int OVERTIME = 3;

    private final Map<String, String> options = new HashMap<>();

    private LabProcess(String... arguments) {
        for (String argument : arguments) {
            String[] pair = argument.split("=", 2);
            options.put(pair[0], pair[1]);
        }
    }

    /** What a process does. */
    interface Role {

        /** A line of its standard input. */
        void command(String line);

        /** Ends its holds gracefully; blocks until that is done. */
        void end();
    }

    public static void main(String[] arguments) throws IOException {
        LabProcess process = new LabProcess(arguments);
        process.limit();
        try (HoldLog log = new HoldLog(LabHistory.log(Path.of(process.option("directory")), process.name()))) {
            Role role = process.role(log);
            log.ready();
            BufferedReader input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
            for (String line = input.readLine(); line != null; line = input.readLine()) {
                role.command(line);
            }
            role.end();
        }
        System.exit(0);
    }

    private Role role(HoldLog log) {
        return switch (option("role")) {
            case "random" -> new RandomHolds(this, log, Long.parseLong(option("seed")));
            case "tokens" -> new TokenHolds(this, log, Long.parseLong(option("seed")));
            case "told" -> new ToldHolds(this, log);
            case "permits" -> new PermitHolds(this, log, Integer.parseInt(option("permits")));
            case "leads" -> new LeadingProcess(this, log, Boolean.parseBoolean(option("quick")));
            case "ignores-loss" -> new LossIgnorer(this, log);
            default -> throw new IllegalArgumentException("role: " + option("role"));
        };
    }

    String name() {
        return option("name");
    }

    /** The name that this process's connections show on the server. */
    String applicationName() {
        return applicationName(name());
    }

    static String applicationName(String process) {
        return "r2lock " + process;
    }

    AdvisoryLocks.Builder client() {
        return AdvisoryLocks.builder(connectionFactory("")).applicationName(applicationName());
    }

    PostgresqlConnectionFactory connectionFactory(String applicationName) {
        return new PostgresqlConnectionFactory(PostgresqlConnectionConfiguration.builder()
                .host(option("host"))
                .port(Integer.parseInt(option("port")))
                .username("postgres")
                .password("postgres")
                .database("postgres")
                .applicationName(applicationName)
                .build());
    }

    /** Whether the next request is to be in session scope; a process may be told to mix the scopes. */
    boolean inSession(Random random) {
        return switch (option("scope")) {
            case "transaction" -> false;
            case "session" -> true;
            case "mixed" -> random.nextBoolean();
            default -> throw new IllegalArgumentException("scope: " + option("scope"));
        };
    }

    private String option(String name) {
        return Objects.requireNonNull(options.get(name), name);
    }

    private void limit() {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(Long.parseLong(option("seconds")));
        Thread limit = new Thread(
                () -> {
                    for (long left = deadline - System.nanoTime(); left > 0; left = deadline - System.nanoTime()) {
                        LockSupport.parkNanos(left);
                    }
                    Runtime.getRuntime().halt(OVERTIME);
                },
                "time limit");
        limit.setDaemon(true);
        limit.start();
    }
}

package io.r2lock.bench;

import org.postgresql.util.DriverInfo;

/**
 * What r2lock promises of its speed, all in one run, against what a user would otherwise write: ratios of interleaved rounds.
 * Absolute rates are printed beside them; on a shared machine they say little.
 *
 * <p>Arguments: {@code rounds=7 seconds=3 warm=30 callers=64 connections=10 waiters=100000}; {@code smoke} as the first one makes
 * the times tiny, to show only that everything runs.
 */
public final class Speed {

    private Speed() {}

    /**
     * Measures and prints.
     *
     * @param arguments {@code name=value}, each with a default
     * @throws Exception where no server starts
     */
    public static void main(String[] arguments) throws Exception {
        Settings settings = new Settings(arguments);
        Table table = new Table();
        try (Server server = new Server()) {
            System.out.printf(
                    "java %s, %d processors, PostgreSQL %s, pgjdbc %s%n%s%n",
                    Runtime.version(),
                    Runtime.getRuntime().availableProcessors(),
                    server.version(),
                    DriverInfo.DRIVER_VERSION,
                    settings);
            run(new Workloads(settings, server, table));
        } finally {
            table.print();
        }
        if (settings.smoke()) {
            System.out.println("smoke: everything ran; the numbers mean nothing");
        }
    }

    private static void run(Workloads workloads) throws InterruptedException {
        workloads.distinctKeys();
        workloads.distinctKeysDelayed(1);
        workloads.distinctKeysDelayed(5);
        workloads.oneCaller();
        workloads.roundTrips();
        workloads.sessionDistinctKeys();
        workloads.hotKey();
        workloads.waiters();
    }
}

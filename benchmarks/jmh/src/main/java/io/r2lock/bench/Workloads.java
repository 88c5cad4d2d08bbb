package io.r2lock.bench;

import io.r2dbc.postgresql.PostgresqlConnectionFactory;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ThreadLocalRandom;
import java.util.function.LongSupplier;

/** What is measured: each method prints what the contenders reached, and adds its rows to the table. */
final class Workloads {

    private static final LongSupplier DISTINCT =
            () -> ThreadLocalRandom.current().nextLong(1L << 40);
    private static final LongSupplier HOT = () -> 42;

    private static final int SESSION_CALLERS = 256;
    private static final int HOT_CALLERS = 1_000;

    /** The most that a queued caller may keep on the heap. */
    private static final int WAITER_BYTES = 1_024;

    private final Settings settings;
    private final Server server;
    private final Table table;
    private final Rounds rounds;

    Workloads(Settings settings, Server server, Table table) {
        this.settings = settings;
        this.server = server;
        this.table = table;
        this.rounds = new Rounds(settings);
    }

    void distinctKeys() {
        Measured rates = transactions(server.port(), "loopback");
        String row = row("loopback");
        table.atLeast(row + ": r2lock / bare", rates.ratio("r2lock", "bare"), 0.85);
        table.atLeast(row + ": r2lock / naive", rates.ratio("r2lock", "naive"), 1.1);
        table.atLeast(row + ": r2lock / pgjdbc", rates.ratio("r2lock", "pgjdbc"), 1);
    }

    void distinctKeysDelayed(int millis) {
        try (DelayProxy proxy = delayed(millis)) {
            String where = "+" + millis + " ms";
            Measured rates = transactions(proxy.port(), where);
            table.atLeast(row(where) + ": r2lock / naive", rates.ratio("r2lock", "naive"), 1.4);
            table.told(row(where) + ": r2lock / bare", rates.ratio("r2lock", "bare"));
            table.told(row(where) + ": r2lock / pgjdbc", rates.ratio("r2lock", "pgjdbc"));
        }
    }

    void oneCaller() {
        List<Contender> contenders = transactionScope(server.port());
        Measured medians = rounds.run(contenders, 0.5, (contender, seconds) -> contender.median(seconds, DISTINCT));
        Report.print("transaction, p50", contenders, 1, medians, "µs");
        contenders.forEach(Contender::close);
        table.atMost("transaction, one caller, p50: r2lock / naive", medians.ratio("r2lock", "naive"), 0.8);
        table.told("transaction, one caller, p50: r2lock / pgjdbc", medians.ratio("r2lock", "pgjdbc"));
    }

    /** Two is what a test elsewhere proves; this shows what is left of it beside the work of client, server and proxy. */
    void roundTrips() {
        int millis = 5;
        try (DelayProxy proxy = delayed(millis)) {
            PostgresqlConnectionFactory factory = Server.factory(proxy.port());
            List<Contender> contenders = List.of(
                    new BareContender(factory, settings.connections()),
                    new NaiveContender(factory, settings.connections()),
                    new TransactionContender(factory, settings.connections()));
            Measured trips = rounds.run(
                    contenders,
                    0.5,
                    (contender, seconds) -> contender.median(seconds, DISTINCT)
                            / Duration.ofMillis(millis).toNanos()
                            * 1e3);
            Report.print("transaction, +5 ms, p50 / 5 ms", contenders, 1, trips, "round trips");
            contenders.forEach(Contender::close);
            table.told("transaction, one caller, +5 ms, p50 / 5 ms: r2lock", trips.of("r2lock"));
            table.told("transaction, one caller, +5 ms, p50 / 5 ms: bare, 2 round trips", trips.of("bare"));
        }
    }

    void sessionDistinctKeys() {
        PostgresqlConnectionFactory factory = Server.factory(server.port());
        List<Contender> contenders = List.of(
                new NaiveContender(factory, settings.connections()),
                new NaiveSessionContender(factory, settings.connections()),
                new SessionContender(factory));
        Measured rates = rates("session, distinct keys", contenders, SESSION_CALLERS, DISTINCT);
        contenders.forEach(Contender::close);
        String row = "session, distinct keys, " + SESSION_CALLERS + " callers: r2lock session / ";
        table.atLeast(row + "naive", rates.ratio(SessionContender.NAME, "naive"), 20);
        table.told(row + "naive session", rates.ratio(SessionContender.NAME, "naive session"));
    }

    void hotKey() {
        PostgresqlConnectionFactory factory = Server.factory(server.port());
        SessionContender session = new SessionContender(factory);
        List<Contender> contenders = List.of(
                new NaiveContender(factory, settings.connections()),
                new PgjdbcContender(Server.url(server.port()), settings.connections()),
                new TransactionContender(factory, settings.connections()),
                session);
        Measured rates = rates("hot key", contenders, HOT_CALLERS, HOT);
        double connections = session.connections(server);
        contenders.forEach(Contender::close);
        String row = String.format("hot key, %,d callers: ", HOT_CALLERS);
        table.atLeast(row + "r2lock session / naive", rates.ratio(SessionContender.NAME, "naive"), 20);
        table.told(row + "r2lock session / pgjdbc", rates.ratio(SessionContender.NAME, "pgjdbc"));
        table.told(row + "r2lock / naive", rates.ratio("r2lock", "naive"));
        table.atMost(row + "connections of r2lock session", List.of(connections), 1);
    }

    void waiters() throws InterruptedException {
        PostgresqlConnectionFactory factory = Server.factory(server.port());
        for (LibraryContender contender :
                List.of(new TransactionContender(factory, settings.connections()), new SessionContender(factory))) {
            Waiters waiters = new Waiters(server, contender, settings.waiters());
            waiters.measure();
            List<Double> bytes = new ArrayList<>();
            List<Double> connections = new ArrayList<>();
            for (int round = 0; round < settings.rounds(); round++) {
                Waiters.Cost cost = waiters.measure();
                bytes.add(cost.bytes());
                connections.add(cost.connections());
            }
            contender.close();
            String row = String.format("%,d queued waiters, %s: ", settings.waiters(), contender.name());
            table.atMost(row + "heap bytes of each", bytes, WAITER_BYTES);
            table.atMost(row + "their connections", connections, 0);
        }
    }

    private List<Contender> transactionScope(int port) {
        int connections = settings.connections();
        return List.of(
                new BareContender(Server.factory(port), connections),
                new NaiveContender(Server.factory(port), connections),
                new PgjdbcContender(Server.url(port), connections),
                new TransactionContender(Server.factory(port), connections));
    }

    private Measured transactions(int port, String where) {
        List<Contender> contenders = transactionScope(port);
        Measured rates = rates("transaction, distinct keys, " + where, contenders, settings.callers(), DISTINCT);
        contenders.forEach(Contender::close);
        return rates;
    }

    private Measured rates(String what, List<Contender> contenders, int callers, LongSupplier keys) {
        Measured rates = rounds.run(contenders, 1, (contender, seconds) -> contender.rate(callers, seconds, keys));
        Report.print(what, contenders, callers, rates, "cycles/s");
        return rates;
    }

    private String row(String where) {
        return "transaction, distinct keys, " + settings.callers() + " callers, " + where;
    }

    private DelayProxy delayed(int millis) {
        return new DelayProxy(
                "127.0.0.1", server.port(), Duration.ofMillis(millis).dividedBy(2));
    }
}

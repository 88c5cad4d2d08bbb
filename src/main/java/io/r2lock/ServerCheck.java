package io.r2lock;

import io.r2dbc.postgresql.api.PostgresqlConnection;
import io.r2dbc.postgresql.api.PostgresqlResult;
import io.r2dbc.spi.Row;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.function.Function;
import reactor.core.Disposable;
import reactor.core.publisher.Mono;

/**
 * Looks at the server over two connections, in rounds: the first asks for its pid; the second opens a transaction, asks for its own
 * and takes a key that nobody else has; the first asks again, and tries the key. The next round swaps them.
 *
 * <p>When the pid of a connection changes, or is the other's, a pooler gives each transaction another backend. One round would
 * often miss that of a busy pooler, where by chance each connection got the backend that it had before. When the first gets the
 * key too, the server does not exclude.
 */
final class ServerCheck {

    /** At most, and as many as it takes where no pooler is. */
    private static final int ROUNDS = 6;

    private final ClientOptions options;
    private final PostgresqlConnection a;
    private final PostgresqlConnection b;
    private final LockKey firstKey;
    private final Set<Integer> pidsOfA = new HashSet<>();
    private final Set<Integer> pidsOfB = new HashSet<>();

    private ServerCheck(ClientOptions options, PostgresqlConnection a, PostgresqlConnection b, LockKey key) {
        this.options = options;
        this.a = a;
        this.b = b;
        this.firstKey = key;
    }

    static Mono<Verdict> run(ClientOptions options, PostgresqlConnection a, PostgresqlConnection b, LockKey key) {
        return Mono.defer(() -> new ServerCheck(options, a, b, key).run());
    }

    /** The one row of a message of the simple protocol; not cancelled by itself. */
    static <T> Mono<T> ask(PostgresqlConnection connection, String sql, Function<Row, T> read) {
        return connection
                .createStatement(sql)
                .fetchSize(0)
                .execute()
                .concatMap((PostgresqlResult result) -> result.map((row, metadata) -> read.apply(row)))
                .last();
    }

    static <T> T column(Row row, int index, Class<T> type) {
        return Arguments.notNull("column " + index, row.get(index, type));
    }

    private record Facts(
            int pid, boolean standby, String version, String encoding, LockCapacityException.Settings lockTable) {}

    /** What was found out. */
    record Verdict(SelfCheck told, LockCapacityException.Settings lockTable) {}

    private record Probe(int pid, boolean granted) {}

    private Mono<Verdict> run() {
        return ask(a, LockSql.CHECK_FACTS, ServerCheck::facts).flatMap(facts -> {
            pidsOfA.add(facts.pid());
            return rounds(1).map(excludes -> verdict(facts, excludes));
        });
    }

    /** Whether the server has excluded in each of the rounds. */
    private Mono<Boolean> rounds(int number) {
        // another key, because the round before may not have given its own back yet
        LockKey key = LockKey.of(firstKey.value() + number);
        Mono<Boolean> round = number % 2 == 1 ? round(key, a, pidsOfA, b, pidsOfB) : round(key, b, pidsOfB, a, pidsOfA);
        return round.flatMap(
                excludes -> excludes && !isPooled() && number < ROUNDS ? rounds(number + 1) : Mono.just(excludes));
    }

    private Mono<Boolean> round(
            LockKey key,
            PostgresqlConnection first,
            Set<Integer> pids,
            PostgresqlConnection second,
            Set<Integer> otherPids) {
        return ask(second, LockSql.checkInTransaction(key), ServerCheck::probe)
                .flatMap(inside -> askBeside(key, first, second).map(again -> {
                    otherPids.add(inside.pid());
                    pids.add(again.pid());
                    return inside.granted() && !again.granted();
                }))
                .doOnError(error -> rollBack(second));
    }

    /**
     * A pooler with no other connection to the server makes {@code first} wait for the end of the transaction of {@code second},
     * and so may a slow network. What is found after that end says nothing about the lock.
     */
    private Mono<Probe> askBeside(LockKey key, PostgresqlConnection first, PostgresqlConnection second) {
        AtomicBoolean rolledBack = new AtomicBoolean();
        Runnable once = () -> {
            if (rolledBack.compareAndSet(false, true)) {
                rollBack(second);
            }
        };
        long patience = options.connectTimeout().toNanos() / 2;
        Disposable late = options.clock().schedule(once, patience, TimeUnit.NANOSECONDS);
        return ask(first, LockSql.check(key), ServerCheck::probe)
                .doOnTerminate(late::dispose)
                .filter(again -> !rolledBack.get())
                .switchIfEmpty(Mono.error(() -> new IllegalStateException(
                        "it could not be found out whether the server excludes: while one connection was in a transaction"
                                + " another one got no answer within half of connectTimeout, as behind a pooler that has a"
                                + " single connection, or none left, to the server")))
                .doOnTerminate(once);
    }

    private static void rollBack(PostgresqlConnection connection) {
        Exchange.send(connection, LockSql.ROLLBACK, (error, yes) -> {});
    }

    private boolean isPooled() {
        return pidsOfA.size() > 1 || pidsOfB.size() > 1 || pidsOfA.equals(pidsOfB);
    }

    private Verdict verdict(Facts facts, boolean excludes) {
        SelfCheck told = new SelfCheck(
                excludes,
                isPooled(),
                facts.standby(),
                facts.version(),
                facts.encoding(),
                facts.lockTable().places(),
                List.of());
        return new Verdict(told, facts.lockTable());
    }

    private static Facts facts(Row row) {
        return new Facts(
                column(row, 0, Integer.class),
                column(row, 1, Boolean.class),
                column(row, 2, String.class),
                column(row, 3, String.class),
                new LockCapacityException.Settings(
                        column(row, 4, Long.class), column(row, 5, Long.class), column(row, 6, Long.class)));
    }

    private static Probe probe(Row row) {
        return new Probe(column(row, 0, Integer.class), column(row, 1, Boolean.class));
    }
}

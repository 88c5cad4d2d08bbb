package io.r2lock;

import static io.r2lock.NestingClients.get;
import static io.r2lock.NestingClients.one;
import static io.r2lock.NestingClients.rows;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.r2dbc.postgresql.api.PostgresqlConnection;
import io.r2dbc.spi.Connection;
import io.r2dbc.spi.R2dbcException;
import io.r2dbc.spi.Result;
import io.r2dbc.spi.Row;
import io.r2dbc.spi.Statement;
import java.time.Duration;
import java.util.List;
import java.util.function.Function;
import java.util.stream.IntStream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;
import reactor.core.Disposable;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;
import reactor.core.publisher.Sinks;

/** Results on the connection of a hold, read to their end, in part, or not at all. */
class HeldResultIT {

    private static final LockKey KEY = LockKey.of(141);

    private final TestServer server = TestServer.newest();

    @RegisterExtension
    @Order(1)
    final NestingClients clients = new NestingClients();

    @RegisterExtension
    @Order(2)
    final NoResidue residue = NoResidue.on(server);

    private DefaultAdvisoryLocks locks;

    @BeforeEach
    void prepare() {
        server.execute("create table if not exists results (v int)", "truncate results");
        locks = clients.on(server, residue, builder -> builder.maxConnections(1));
    }

    private <T> T inHold(Function<Connection, Mono<T>> work) {
        return get(locks.exclusive(KEY).guard(hold -> work.apply(hold.connection())));
    }

    private List<String> written() {
        return server.query("select v from results order by v").stream()
                .map(row -> String.valueOf(row.get("v")))
                .toList();
    }

    @ParameterizedTest
    @ValueSource(booleans = {false, true})
    void failingMapping_isTheError_andTheConnectionGoesOn(boolean prepared) {
        List<String> seen = inHold(connection -> Flux.concat(
                        mapped(connection, prepared, row -> {
                            throw new IllegalArgumentException("mapping");
                        }),
                        mapped(connection, prepared, row -> nothing()),
                        flatMapped(connection, prepared, Mono.error(new IllegalArgumentException("segment"))),
                        rows(connection, "select 5").flatMapIterable(row -> row))
                .collectList());
        assertThat(seen)
                .containsExactly("IllegalArgumentException", "NullPointerException", "IllegalArgumentException", "5");
    }

    @SuppressWarnings("NullAway") // what a user may do
    private static String nothing() {
        return null;
    }

    private static Statement many(Connection connection, boolean prepared, int rows) {
        return prepared
                ? connection.createStatement("select generate_series(1, $1)").bind(0, rows)
                : connection.createStatement("select generate_series(1, " + rows + ")");
    }

    private static Mono<String> mapped(Connection connection, boolean prepared, Function<Row, String> mapping) {
        return named(Flux.from(many(connection, prepared, 1_000).execute())
                .concatMap(result -> result.map((row, metadata) -> mapping.apply(row))));
    }

    private static Mono<String> flatMapped(Connection connection, boolean prepared, Mono<String> mapping) {
        return named(Flux.from(many(connection, prepared, 1_000).execute())
                .concatMap(result -> result.flatMap(segment -> mapping)));
    }

    private static Mono<String> named(Flux<String> values) {
        return values.last("empty")
                .onErrorResume(error -> Mono.just(error.getClass().getSimpleName()));
    }

    @ParameterizedTest
    @ValueSource(strings = {"simple", "extended", "fetchSize"})
    void resultsLeftHalfRead_leaveTheConnectionUsable(String how) {
        List<String> seen = inHold(connection -> {
            Statement statement = many(connection, how.equals("extended"), 5_000);
            if (how.equals("fetchSize")) {
                statement.fetchSize(100);
            }
            return Flux.from(statement.execute())
                    .concatMap(result -> result.map((row, metadata) -> String.valueOf(row.get(0))))
                    .take(1)
                    .concatWith(Mono.from(many(connection, how.equals("extended"), 5_000)
                                    .execute())
                            .flatMapMany(result -> result.map(row -> String.valueOf(row.get(0))))
                            .take(2))
                    .concatWith(one(connection, "select 'next'"))
                    .concatWith(Mono.from(connection
                                    .createStatement("insert into results (v) values (1)")
                                    .execute())
                            .flatMap(result -> Mono.from(result.getRowsUpdated()))
                            .map(String::valueOf))
                    .collectList();
        });
        assertThat(seen).containsExactly("1", "1", "2", "next", "1");
        assertThat(written()).containsExactly("1");
    }

    @ParameterizedTest
    @ValueSource(booleans = {false, true})
    void resultNeverRead_doesNotHangTheCommit(boolean prepared) {
        inHold(connection -> Mono.from((prepared
                                ? connection
                                        .createStatement("insert into results (v) values ($1)")
                                        .bind(0, 7)
                                : connection.createStatement("insert into results (v) values (7)"))
                        .execute())
                .thenReturn(1));
        // the driver does not even send a prepared statement whose result nobody reads
        assertThat(written()).isEqualTo(prepared ? List.of() : List.of("7"));
    }

    private static Flux<Long> inserted(Connection connection, int... values) {
        Statement statement = connection.createStatement("insert into results (v) select 10 / $1 from pg_sleep(0.002)");
        for (int i = 0; i < values.length; i++) {
            statement.bind(0, values[i]);
            if (i < values.length - 1) {
                statement.add();
            }
        }
        return Flux.from(statement.execute()).concatMap(Result::getRowsUpdated);
    }

    @Test
    void failingBindingAmongSeveral_isTheError_andTheConnectionGoesOn() {
        int pid = get(locks.exclusive(KEY).guard(hold -> Mono.just(hold.backendPid())));
        assertThatThrownBy(
                        () -> inHold(connection -> inserted(connection, 1, 0, 2).then(Mono.just(1))))
                .isInstanceOf(R2dbcException.class);
        int next = get(locks.exclusive(KEY).guard(hold -> Mono.just(hold.backendPid())));
        assertThat(next).as("reused").isEqualTo(pid);

        String handled = inHold(connection -> Mono.from(connection.createSavepoint("s"))
                .then(inserted(connection, 1, 0, 2).then(Mono.just("no")))
                .onErrorResume(error -> Mono.from(connection.rollbackTransactionToSavepoint("s"))
                        .thenReturn("handled"))
                .delayUntil(how -> inserted(connection, 10, 5)));
        assertThat(handled).isEqualTo("handled");
        assertThat(written()).containsExactly("1", "2");
    }

    @Test
    void manyBindings_areCancelledWithTheCall() {
        int pid = get(locks.exclusive(KEY).guard(hold -> Mono.just(hold.backendPid())));
        Sinks.Empty<Void> some = Sinks.empty();
        Disposable call = locks.exclusive(KEY)
                .guardMany(hold ->
                        inserted(hold.connection(), IntStream.range(1, 2_000).toArray()))
                .doOnNext(count -> some.tryEmitEmpty())
                .subscribe();
        some.asMono().block(NestingClients.PATIENCE);
        long start = System.nanoTime();
        call.dispose();
        int next = get(locks.exclusive(KEY).guard(hold -> Mono.just(hold.backendPid())));
        assertThat(Duration.ofNanos(System.nanoTime() - start)).isLessThan(Duration.ofMillis(500));
        assertThat(next).as("reused").isEqualTo(pid);
        assertThat(written()).isEmpty();
    }

    @Test
    void manyStatementsSideBySide_work() {
        List<Integer> seen = inHold(connection -> Flux.range(0, 400)
                .flatMap(i -> i % 2 == 0 ? one(connection, "select $1::int", i) : one(connection, "select " + i), 200)
                .map(Integer::valueOf)
                .sort()
                .collectList());
        assertThat(seen).isEqualTo(IntStream.range(0, 400).boxed().toList());
    }

    private enum Running {
        SLEEP("select pg_sleep(30)"),
        ROWS("select repeat('x', 100) from generate_series(1, 10000000)"),
        ROW_LOCK("update results set v = v + 1");

        private final String sql;

        Running(String sql) {
            this.sql = sql;
        }
    }

    @ParameterizedTest
    @EnumSource
    void cancelWhileAStatementRuns_freesLockAndConnectionAtOnce(Running running) {
        server.execute("insert into results values (1)");
        int pid = get(locks.exclusive(KEY).guard(hold -> Mono.just(hold.backendPid())));
        try (Sessions sessions = new Sessions(server)) {
            PostgresqlConnection elsewhere = sessions.open();
            Sessions.run(elsewhere, "begin; update results set v = v + 1");
            Disposable call = locks.exclusive(KEY)
                    .guardMany(hold -> Flux.from(hold.connection()
                                    .createStatement(running.sql)
                                    .execute())
                            .concatMap(result -> result.map((row, metadata) -> 1)))
                    .limitRate(10)
                    .subscribe();
            Await.until(
                    "runs",
                    () -> server.count("select count(*) from pg_stat_activity where state = 'active' and pid = " + pid
                                    + " and query = $$" + running.sql + "$$")
                            == 1);

            long start = System.nanoTime();
            call.dispose();
            int next = get(locks.exclusive(KEY).guard(hold -> Mono.just(hold.backendPid())));
            assertThat(Duration.ofNanos(System.nanoTime() - start)).isLessThan(Duration.ofMillis(200));
            assertThat(next).as("reused").isEqualTo(pid);
            Sessions.run(elsewhere, "rollback");
        }
    }

    @Test
    void cancelWhileASegmentsPublisherNeverEnds_leavesTheConnectionUsable() {
        int pid = get(locks.exclusive(KEY).guard(hold -> Mono.just(hold.backendPid())));
        Disposable call = locks.exclusive(KEY)
                .guardMany(
                        hold -> Flux.from(many(hold.connection(), false, 1_000).execute())
                                .concatMap(result -> result.flatMap(segment -> Mono.never())))
                .subscribe();
        Await.until(
                "runs",
                () -> server.count("select count(*) from pg_stat_activity where query like 'select generate_series%'"
                                + " and pid = " + pid)
                        == 1);
        call.dispose();
        int next = get(locks.exclusive(KEY).guard(hold -> Mono.just(hold.backendPid())));
        assertThat(next).as("reused").isEqualTo(pid);
    }
}

package io.r2lock;

import static io.r2lock.NestingClients.PATIENCE;
import static io.r2lock.NestingClients.get;
import static io.r2lock.NestingClients.one;
import static io.r2lock.NestingClients.rows;
import static io.r2lock.NestingClients.run;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.r2dbc.postgresql.PostgresqlConnectionFactory;
import io.r2dbc.spi.Batch;
import io.r2dbc.spi.Connection;
import io.r2dbc.spi.IsolationLevel;
import io.r2dbc.spi.R2dbcException;
import io.r2dbc.spi.Result;
import io.r2dbc.spi.Statement;
import io.r2dbc.spi.TransactionDefinition;
import io.r2dbc.spi.ValidationDepth;
import io.r2dbc.spi.Wrapped;
import java.util.List;
import java.util.Objects;
import java.util.function.Function;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.reactivestreams.Publisher;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;

/** The connection of a hold does all that a user needs of one, and cannot end the transaction that holds the lock. */
class HeldConnectionIT {

    private static final LockKey KEY = LockKey.of(131);

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
        server.execute(
                "create table if not exists held (id int generated always as identity, v int)",
                "truncate held restart identity");
        locks = clients.on(server, residue, builder -> builder.maxConnections(1));
    }

    private <T> T inHold(Function<Connection, Mono<T>> work) {
        return get(locks.exclusive(KEY).guard(hold -> work.apply(hold.connection())));
    }

    private List<String> written() {
        return server.query("select v from held order by id").stream()
                .map(row -> String.valueOf(row.get("v")))
                .toList();
    }

    static Stream<Function<Connection, Publisher<Void>>> endsOfTheTransaction() {
        return Stream.of(
                Connection::beginTransaction,
                connection -> connection.beginTransaction(IsolationLevel.SERIALIZABLE),
                connection -> connection.beginTransaction(new TransactionDefinition() {
                    @Override
                    public <T> T getAttribute(io.r2dbc.spi.Option<T> option) {
                        throw new AssertionError("not asked");
                    }
                }),
                Connection::commitTransaction,
                Connection::rollbackTransaction,
                connection -> connection.setAutoCommit(true),
                connection -> connection.setTransactionIsolationLevel(IsolationLevel.SERIALIZABLE));
    }

    @ParameterizedTest
    @MethodSource("endsOfTheTransaction")
    void endOfTheTransaction_isRefused_andHarmsNothing(Function<Connection, Publisher<Void>> end) {
        int done = inHold(connection -> run(connection, "insert into held (v) values (1)")
                .then(Mono.from(end.apply(connection))
                        .thenReturn(0)
                        .onErrorResume(IllegalStateException.class, refused -> Mono.just(1)))
                .delayUntil(refused -> run(connection, "insert into held (v) values (2)")));
        assertThat(done).isEqualTo(1);
        assertThat(written()).containsExactly("1", "2");
    }

    @Test
    void close_doesNothing() {
        List<String> pids = inHold(connection -> one(connection, "select pg_backend_pid()")
                .delayUntil(pid -> connection.close())
                .concatWith(one(connection, "select pg_backend_pid()"))
                .collectList());
        assertThat(pids.get(0)).isEqualTo(pids.get(1));
    }

    @Test
    void connection_cannotBeUnwrapped() {
        Object innermost = inHold(connection -> {
            Object target = connection;
            while (target instanceof Wrapped<?> wrapped && wrapped.unwrap() != null) {
                target = wrapped.unwrap();
            }
            assertThat(connection).isNotInstanceOf(io.r2dbc.postgresql.api.PostgresqlConnection.class);
            assertThat(connection.createStatement("select 1")).isNotInstanceOf(Wrapped.class);
            return Mono.just(target);
        });
        assertThat(innermost).isInstanceOf(HeldConnection.class);
    }

    @Test
    void metadataAndState_areThoseOfTheTransaction() {
        inHold(connection -> {
            assertThat(connection.isAutoCommit()).isFalse();
            assertThat(connection.getTransactionIsolationLevel()).isEqualTo(IsolationLevel.READ_COMMITTED);
            assertThat(connection.getMetadata().getDatabaseProductName()).isEqualTo("PostgreSQL");
            return Mono.from(connection.setAutoCommit(false))
                    .then(Mono.from(connection.validate(ValidationDepth.LOCAL)))
                    .zipWith(Mono.from(connection.validate(ValidationDepth.REMOTE)))
                    .doOnNext(
                            valid -> assertThat(valid.getT1() && valid.getT2()).isTrue());
        });
    }

    @Test
    void savepoints_work() {
        inHold(connection -> run(connection, "insert into held (v) values (1)")
                .then(Mono.from(connection.createSavepoint("s")))
                .then(run(connection, "insert into held (v) values (2)"))
                .then(Mono.from(connection.rollbackTransactionToSavepoint("s")))
                .then(run(connection, "insert into held (v) values (3)"))
                .then(Mono.from(connection.createSavepoint("t")))
                .then(run(connection, "select 1 / 0").onErrorComplete(R2dbcException.class))
                .then(Mono.from(connection.rollbackTransactionToSavepoint("t")))
                .then(Mono.from(connection.releaseSavepoint("s")))
                .thenReturn(1));
        assertThat(written()).containsExactly("1", "3");
    }

    @Test
    void statements_ofAllKinds_work() {
        List<Object> seen = inHold(connection -> Flux.concat(
                        Flux.from(connection
                                        .createStatement("insert into held (v) values ($1)")
                                        .bind("$1", 10)
                                        .add()
                                        .bind(0, 11)
                                        .add()
                                        .bindNull(0, Integer.class)
                                        .returnGeneratedValues("id")
                                        .execute())
                                .concatMap(result -> result.map(row -> row.get(0, Integer.class))),
                        Flux.from(connection
                                        .createStatement("update held set v = v + 1 where v is not null")
                                        .execute())
                                .concatMap(Result::getRowsUpdated),
                        Flux.from(batch(connection).execute())
                                .concatMap(result -> result.map((row, metadata) -> row.get(0, String.class))),
                        Flux.from(connection
                                        .createStatement("select generate_series(1, 10)")
                                        .fetchSize(3)
                                        .execute())
                                .concatMap(result -> result.map(row -> row.get(0, Integer.class)))
                                .count(),
                        Flux.from(connection
                                        .createStatement("select v from held where v = $1")
                                        .bind(0, 12)
                                        .execute())
                                .concatMap(result -> result.filter(Result.RowSegment.class::isInstance)
                                        .flatMap(segment -> segment instanceof Result.RowSegment row
                                                ? Mono.just("row " + row.row().get(0))
                                                : Mono.just("other"))))
                .map(Object.class::cast)
                .collectList());
        assertThat(seen).containsExactly(1, 2, 3, 2L, "a", "b", 10L, "row 12");
        assertThat(written()).containsExactly("11", "12", "null");
    }

    private static Batch batch(Connection connection) {
        return connection.createBatch().add("select 'a'").add("select 'b'");
    }

    @Test
    void badBinding_isToldAsTheDriverTellsIt() {
        assertThatThrownBy(() -> inHold(connection -> Flux.from(connection
                                .createStatement("select $1")
                                .bind("$7", 1)
                                .execute())
                        .then(Mono.just(1))))
                .isInstanceOf(RuntimeException.class);
        assertThatThrownBy(() -> inHold(connection -> Flux.from(connection
                                .createStatement("select $1, $2")
                                .bind(0, 1)
                                .execute())
                        .concatMap(Result::getRowsUpdated)
                        .then(Mono.just(1))))
                .isInstanceOf(IllegalStateException.class);
    }

    @Test
    void statementsAfterTheEnd_fail() {
        HeldLock hold = get(locks.exclusive(KEY).acquire());
        Connection connection = hold.connection();
        Statement early = connection.createStatement("select 1");
        NestingClients.end(hold.commit());
        for (Publisher<?> late : List.of(
                Flux.from(early.execute()).concatMap(Result::getRowsUpdated),
                connection.createSavepoint("s"),
                Flux.from(batch(connection).execute()).concatMap(Result::getRowsUpdated))) {
            assertThatThrownBy(() -> Flux.from(late).blockLast(PATIENCE)).isInstanceOf(LockLostException.class);
        }
        assertThat(Objects.requireNonNull(
                        Mono.from(connection.validate(ValidationDepth.LOCAL)).block(PATIENCE)))
                .isFalse();
        assertThat(Objects.requireNonNull(
                        Mono.from(connection.validate(ValidationDepth.REMOTE)).block(PATIENCE)))
                .isFalse();
    }

    @Test
    void fetchSizeOfTheUsersFactory_doesNotDisturbTheLock() {
        DefaultAdvisoryLocks fetching = clients.with(
                AdvisoryLocks.builder(new PostgresqlConnectionFactory(
                        server.configuration().fetchSize(sql -> 2).build())),
                residue,
                builder -> builder);
        List<String> rows = get(fetching.exclusive(KEY)
                .guard(hold -> fetching.exclusive(LockKey.of(132))
                        .guard(rows(hold.connection(), "select generate_series(1, 5)"))));
        assertThat(rows).hasSize(5);
    }
}

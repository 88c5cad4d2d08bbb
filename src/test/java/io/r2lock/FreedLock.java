package io.r2lock;

import static io.r2lock.TestClients.PATIENCE;
import static io.r2lock.TestClients.execute;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.r2dbc.spi.Batch;
import io.r2dbc.spi.Connection;
import io.r2dbc.spi.R2dbcException;
import io.r2dbc.spi.Result;
import java.time.Duration;
import java.util.List;
import java.util.Objects;
import java.util.Queue;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.MethodSource;
import org.reactivestreams.Publisher;
import org.slf4j.event.Level;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;

/** SQL of the work that ends the lock's transaction frees the lock: a loss, told before the call succeeds. */
abstract class FreedLock {

    /** How the work sends it. */
    enum Way {
        STATEMENT,
        PREPARED,
        BATCH,
        STATEMENT_UNREAD,
        PREPARED_UNREAD,
        BATCH_UNREAD;

        Mono<?> send(Connection connection, String sql) {
            return switch (this) {
                case STATEMENT -> read(connection.createStatement(sql).execute());
                // a fetch size is what makes the driver use the extended protocol without bindings
                case PREPARED ->
                    read(connection.createStatement(sql).fetchSize(10).execute());
                case BATCH -> read(batch(connection, sql).execute());
                case STATEMENT_UNREAD ->
                    Mono.from(connection.createStatement(sql).execute());
                case PREPARED_UNREAD ->
                    Mono.from(connection.createStatement(sql).fetchSize(10).execute());
                case BATCH_UNREAD -> Mono.from(batch(connection, sql).execute());
            };
        }

        boolean isRead() {
            return !name().endsWith("UNREAD");
        }

        private static Batch batch(Connection connection, String sql) {
            return connection.createBatch().add("select 1").add(sql);
        }

        private static Mono<Void> read(Publisher<? extends Result> results) {
            return Flux.from(results).concatMap(Result::getRowsUpdated).then();
        }
    }

    private static final LockKey A = LockKey.of(10_201);
    private static final LockKey B = LockKey.of(10_202);

    final TestServer server;
    final Queue<String> losses = new ConcurrentLinkedQueue<>();

    @RegisterExtension
    @Order(2)
    final NoResidue residue;

    @RegisterExtension
    @Order(1)
    final TestClients clients;

    DefaultAdvisoryLocks locks;

    FreedLock(TestServer server) {
        this.server = server;
        residue = NoResidue.on(server);
        clients = new TestClients(residue);
    }

    @BeforeEach
    void prepare() {
        server.execute("drop table if exists freed", "create table freed (id int)");
        residue.allowLog(Level.WARN, "io.r2lock.AdvisoryLocks");
        locks = clients.open(server, builder -> builder.maxConnections(1).listener(new LossListener(losses)));
    }

    private record LossListener(Queue<String> losses) implements LockListener {
        @Override
        public void lost(List<LockKey> keys, LockMode mode, Duration age, String why) {
            losses.add(keys + " " + why);
        }
    }

    final List<Object> rows() {
        return server.query("select id from freed order by id").stream()
                .map(row -> Objects.requireNonNull(row.get("id")))
                .toList();
    }

    static Mono<Void> insert(HeldLock hold, int id) {
        return execute(hold, "insert into freed values (" + id + ")");
    }

    private static Stream<Arguments> frees() {
        Stream<Arguments> everyText = Stream.of("rollback", "rollback and chain", "commit; begin", "/* */ END")
                .map(sql -> Arguments.of(sql, Way.STATEMENT));
        Stream<Arguments> everyWay = Stream.of(Way.values())
                .flatMap(way -> Stream.of(Arguments.of("commit", way), Arguments.of("commit and chain", way)));
        return Stream.concat(everyText, everyWay);
    }

    final void assertLossOf(String sql, Way way, LockKey next) {
        assertThatThrownBy(() -> locks.exclusive(A)
                        .guard((HeldLock hold) -> insert(hold, 1)
                                .then(way.send(hold.connection(), sql))
                                // who has not read the answer cannot know, so goes on in whatever came after
                                .then(way.isRead() ? insert(hold, 2) : Mono.empty())
                                .thenReturn("value"))
                        .block(PATIENCE))
                .isInstanceOf(LockLostException.class);
        assertThat(losses).hasSize(1);
        assertThat(locks.exclusive(next)
                        .guard((HeldLock hold) -> insert(hold, 3).thenReturn("reused"))
                        .block(PATIENCE))
                .isEqualTo("reused");
        assertThat(rows()).doesNotContain(2).contains(3);
    }

    @ParameterizedTest
    @MethodSource("frees")
    void endOfTheTransaction_byTheWork_isALoss_andNothingIsCommittedAfterIt(String sql, Way way) {
        assertLossOf(sql, way, A);
        boolean kept = sql.startsWith("commit") || sql.endsWith("END");
        assertThat(rows()).isEqualTo(kept ? List.of(1, 3) : List.of(3));
    }

    @Test
    void keysOfEveryKind_passTheCheck() {
        LockKey[] kinds = {
            LockKey.of(-1),
            LockKey.of(Long.MIN_VALUE),
            LockKey.of(Long.MAX_VALUE),
            LockKey.of(-3, 7),
            LockKey.of(3, -7),
            LockKey.of(Integer.MIN_VALUE, Integer.MIN_VALUE),
            LockKey.named("freed", "a name"),
            LockKey.hashtext("negative?")
        };
        for (LockKey key : kinds) {
            assertPassesTheCheck(List.of(key));
        }
        assertPassesTheCheck(List.of(kinds));
        assertThat(losses).isEmpty();
        assertThat(rows()).hasSize(2 * (kinds.length + 1));
    }

    private void assertPassesTheCheck(List<LockKey> keys) {
        for (LockRequest request : List.of(locks.exclusive(keys), locks.shared(keys))) {
            assertThat(request.guard((HeldLock hold) -> insert(hold, 1).thenReturn("alone"))
                            .block(PATIENCE))
                    .isEqualTo("alone");
            // a word that may free something, in a text: so that the nested lock is checked too
            assertThat(locks.exclusive(B)
                            .guard((HeldLock outer) -> request.guard((HeldLock hold) ->
                                    execute(hold, "select 'commit' as \"end\"").thenReturn("nested")))
                            .block(PATIENCE))
                    .isEqualTo("nested");
        }
    }

    @ParameterizedTest
    @EnumSource(LockMode.class)
    void checkIsOfTheModeThatWasAskedFor(LockMode mode) {
        LockRequest request = mode == LockMode.SHARED ? locks.shared(A) : locks.exclusive(A);
        String other = mode == LockMode.SHARED ? "pg_advisory_xact_lock" : "pg_advisory_xact_lock_shared";
        // the work takes the key in the other mode: twice in pg_locks, once as what was asked for
        assertThat(request.guard((HeldLock hold) ->
                                execute(hold, "select " + other + "(10201)").thenReturn("value"))
                        .block(PATIENCE))
                .isEqualTo("value");
    }

    @Test
    void whatTheWorkDoesToItsSession_doesNotDeceiveTheCheck() {
        assertThat(locks.exclusive(A)
                        .guard((HeldLock hold) -> execute(hold, "create temporary table pg_locks (locktype text)")
                                .then(execute(hold, "set local search_path = pg_temp"))
                                .thenReturn("value"))
                        .block(PATIENCE))
                .isEqualTo("value");
        assertThat(losses).isEmpty();
    }

    @Test
    void statementThatFailed_staysWhatItWas_alsoAsAConnectionError() {
        for (String state : List.of("08006", "57P01", "P0001")) {
            String raise =
                    "do $$ begin raise exception 'from a foreign server' using errcode = '" + state + "'; end $$";
            assertThatThrownBy(() -> locks.exclusive(A)
                            .guard((HeldLock hold) ->
                                    insert(hold, 1).then(execute(hold, raise)).thenReturn("value"))
                            .block(PATIENCE))
                    .as(state)
                    .hasMessageContaining("from a foreign server")
                    .isInstanceOf(R2dbcException.class);
        }
        assertThat(losses).isEmpty();
        assertThat(rows()).isEmpty();
    }
}

package io.r2lock;

import static io.r2lock.TestClients.PATIENCE;
import static io.r2lock.TestClients.execute;
import static io.r2lock.TestClients.free;
import static io.r2lock.TestClients.holdElsewhere;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.r2dbc.postgresql.api.PostgresqlConnection;
import io.r2dbc.spi.R2dbcException;
import io.r2dbc.spi.R2dbcRollbackException;
import java.time.Duration;
import java.util.List;
import java.util.Objects;
import java.util.concurrent.CompletableFuture;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import reactor.core.publisher.Mono;

/** A nested lock is freed by a rollback to a savepoint that is older: its guard tells, the outer hold goes on. */
@Timeout(60)
class NestedLossIT {

    enum BackTo {
        RAW,
        LOWER_CASE_WITH_WORK,
        BY_SPI,
        UNREAD;

        Mono<Void> send(HeldLock hold, String name) {
            return switch (this) {
                case RAW -> execute(hold, "ROLLBACK TO " + name);
                case LOWER_CASE_WITH_WORK -> execute(hold, "rollback work to savepoint " + name);
                case BY_SPI -> Mono.from(hold.connection().rollbackTransactionToSavepoint(name));
                case UNREAD ->
                    Mono.from(hold.connection()
                                    .createStatement("rollback to " + name)
                                    .execute())
                            .then();
            };
        }
    }

    private static final LockKey A = LockKey.of(10_301);
    private static final LockKey B = LockKey.of(10_302);

    private final TestServer server = TestServer.newest();

    @RegisterExtension
    @Order(2)
    final NoResidue residue = NoResidue.on(server);

    @RegisterExtension
    @Order(1)
    final TestClients clients = new TestClients(residue);

    private DefaultAdvisoryLocks locks;

    @BeforeEach
    void prepare() {
        server.execute("drop table if exists nested_loss", "create table nested_loss (id int)");
        locks = clients.open(server);
    }

    private static Mono<Void> insert(HeldLock hold, int id) {
        return execute(hold, "insert into nested_loss values (" + id + ")");
    }

    private static Mono<Void> savepoint(HeldLock hold, String name) {
        return Mono.from(hold.connection().createSavepoint(name));
    }

    private List<Object> rows() {
        return server.query("select id from nested_loss order by id").stream()
                .map(row -> Objects.requireNonNull(row.get("id")))
                .toList();
    }

    private static Mono<String> told(Mono<String> nested) {
        return nested.onErrorResume(error -> Mono.just(error.getClass().getSimpleName()));
    }

    @ParameterizedTest
    @EnumSource(BackTo.class)
    void rollbackToAnOlderSavepoint_whileTheNestedHoldIsOpen_isItsLoss_andNotTheOuterOnes(BackTo back) {
        String told = locks.exclusive(A)
                .guard((HeldLock outer) -> insert(outer, 1)
                        .then(savepoint(outer, "before"))
                        .then(told(locks.exclusive(B)
                                .guard((HeldLock inner) -> insert(inner, 2)
                                        .then(back.send(inner, "before"))
                                        .thenReturn("value"))))
                        .flatMap(nested -> insert(outer, 3).thenReturn(nested)))
                .block(PATIENCE);
        assertThat(told).isEqualTo("LockLostException");
        assertThat(rows()).containsExactly(1, 3);
    }

    @ParameterizedTest
    @EnumSource(BackTo.class)
    void rollbackToASavepoint_thatIsYounger_isNoLoss(BackTo back) {
        String told = locks.exclusive(A)
                .guard((HeldLock outer) -> locks.exclusive(B)
                        .guard((HeldLock inner) -> savepoint(inner, "after")
                                .then(insert(inner, 2))
                                .then(back.send(inner, "after"))
                                .then(insert(inner, 3))
                                .thenReturn("value")))
                .block(PATIENCE);
        assertThat(told).isEqualTo("value");
        assertThat(rows()).containsExactly(3);
    }

    @Test
    void rollbackToAnOlderSavepoint_afterTheNestedHold_isNoLossOfTheOuterOne() {
        String told = locks.exclusive(A)
                .guard((HeldLock outer) -> savepoint(outer, "before")
                        .then(locks.exclusive(B)
                                .guard((HeldLock inner) -> insert(inner, 2).thenReturn("value")))
                        .delayUntil(value -> execute(outer, "rollback to before"))
                        .delayUntil(value -> locks.exclusive(B)
                                .guard((HeldLock again) -> insert(again, 4).thenReturn("again"))))
                .block(PATIENCE);
        assertThat(told).isEqualTo("value");
        assertThat(rows()).containsExactly(4);
    }

    /** What comes between the grant and the hold, because it queued behind the nested lock's statement. */
    @ParameterizedTest
    @EnumSource(BackTo.class)
    void rollbackThatQueuedBehindTheNestedLock_isItsLossToo(BackTo back) {
        try (Sessions sessions = new Sessions(server)) {
            for (int round = 0; round < 5; round++) {
                PostgresqlConnection other = holdElsewhere(sessions, 10_302);
                CompletableFuture<String> call = locks.exclusive(A)
                        .guard((HeldLock outer) -> savepoint(outer, "before")
                                .then(Mono.zip(
                                        told(locks.exclusive(B)
                                                .guard((HeldLock inner) -> execute(inner, "select 1")
                                                        .thenReturn("value"))),
                                        Mono.delay(Duration.ofMillis(20))
                                                .then(back.send(outer, "before"))
                                                .thenReturn("rolled back"))))
                        .map(both -> both.getT1())
                        .toFuture();
                sessions.awaitWaiting(1);
                Mono.delay(Duration.ofMillis(60)).block(PATIENCE);
                free(other, 10_302);
                assertThat(call).succeedsWithin(PATIENCE).isEqualTo("LockLostException");
            }
        }
    }

    @Test
    void nestedAcquire_tellsItsLoss_byCommitAndByLost() {
        assertThat(locks.exclusive(A)
                        .guard((HeldLock outer) -> savepoint(outer, "before")
                                .then(locks.exclusive(B).acquire())
                                .flatMap(inner -> execute(inner, "rollback to before")
                                        .then(told(inner.commit().thenReturn("committed")))
                                        .zipWith(told(inner.lost().thenReturn("not lost"))))
                                .map(both -> both.getT1() + " " + both.getT2()))
                        .block(PATIENCE))
                .isEqualTo("LockLostException LockLostException");
    }

    @Test
    void swallowedSqlErrorInNestedWork_staysWhatItWas() {
        assertThatThrownBy(() -> locks.exclusive(A)
                        .guard((HeldLock outer) -> insert(outer, 1)
                                .then(locks.exclusive(B)
                                        .guard((HeldLock inner) -> execute(inner, "select 1/0 as \"end\"")
                                                .onErrorComplete()
                                                .thenReturn("value"))))
                        .block(PATIENCE))
                .isInstanceOf(R2dbcRollbackException.class);
        assertThatThrownBy(() -> locks.exclusive(A)
                        .guard((HeldLock outer) -> locks.exclusive(B)
                                .guard((HeldLock inner) ->
                                        execute(inner, "select 1/0 as \"end\"").thenReturn("value")))
                        .block(PATIENCE))
                .isInstanceOf(R2dbcException.class)
                .hasMessageContaining("division by zero");
        assertThat(rows()).isEmpty();
    }

    @ParameterizedTest
    @EnumSource
    void resultThatNestedWorkLeftUnread_doesNotHang(Unread unread) {
        long start = System.nanoTime();
        assertThat(locks.exclusive(A)
                        .guard((HeldLock outer) -> locks.exclusive(B)
                                .guard((HeldLock inner) -> unread.leave(inner).thenReturn("value"))
                                .delayUntil(value -> insert(outer, 1)))
                        .block(PATIENCE))
                .isEqualTo("value");
        assertThat(TestClients.since(start)).isLessThan(Duration.ofSeconds(5));
        assertThat(rows()).containsExactly(1);
    }

    enum Unread {
        FEW("select 1 as \"end\""),
        MANY("select repeat('x', 1000) as \"end\" from generate_series(1, 20000)");

        private final String sql;

        Unread(String sql) {
            this.sql = sql;
        }

        Mono<?> leave(HeldLock hold) {
            return Mono.from(hold.connection().createStatement(sql).execute());
        }
    }
}

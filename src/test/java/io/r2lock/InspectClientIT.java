package io.r2lock;

import static io.r2lock.Inspections.in;
import static io.r2lock.Inspections.look;
import static io.r2lock.Inspections.only;
import static io.r2lock.LockInfo.State.HELD;
import static io.r2lock.LockInfo.State.WAITING_HERE;
import static io.r2lock.TestClients.PATIENCE;
import static io.r2lock.TestClients.acquire;
import static io.r2lock.TestClients.release;
import static org.assertj.core.api.Assertions.assertThat;

import io.r2dbc.postgresql.api.PostgresqlConnection;
import java.sql.Timestamp;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import reactor.core.Disposable;
import reactor.core.Disposables;
import reactor.core.publisher.Mono;

/** What {@code inspect()} adds from what the client knows. */
class InspectClientIT {

    private static final LockKey A = LockKey.named("inspected", "a");
    private static final LockKey B = LockKey.named("inspected", "b");
    private static final LockKey C = LockKey.named("inspected", "c");

    private final TestServer server = TestServer.newest();
    private final Sessions sessions = new Sessions(server);
    private final Disposable.Composite waits = Disposables.composite();

    @RegisterExtension
    @Order(2)
    final NoResidue residue = NoResidue.on(server);

    @RegisterExtension
    @Order(1)
    final TestClients clients = new TestClients(residue);

    @AfterEach
    void close() {
        waits.dispose();
        sessions.close();
    }

    private void waiting(LockRequest request) {
        waits.add(request.guard(Mono.never()).subscribe());
    }

    private Instant serverNow() {
        return ((Timestamp) Objects.requireNonNull(
                        server.query("select now()::timestamptz as now").get(0).get("now")))
                .toInstant();
    }

    @Test
    void pollers_areBlockedByWhoeverHoldsIt_eachKeyOfATransaction_andTheMissingOneOfASession() {
        PostgresqlConnection other = TestClients.holdElsewhere(sessions, B.value());
        DefaultAdvisoryLocks locks = clients.open(server);
        LockKey free = LockKey.named("inspected", "free");
        Disposable inTransaction =
                locks.exclusive(B, free).polling().guard(Mono.never()).subscribe();
        // between two tries
        List<LockInfo> seen =
                Await.value(() -> look(locks), all -> in(all, WAITING_HERE).size() == 2, PATIENCE);
        assertThat(only(seen, B, WAITING_HERE).blockedBy()).containsExactly(Sessions.pid(other));
        assertThat(only(seen, free, WAITING_HERE).blockedBy()).isEmpty();
        inTransaction.dispose();
        Await.until("end of the wait", () -> locks.live() == 0);
        waits.add(locks.exclusive(B, free)
                .inSession()
                .polling()
                .guard(Mono.never())
                .subscribe());
        seen = Await.value(() -> look(locks), all -> in(all, WAITING_HERE).size() == 1, PATIENCE);
        assertThat(only(seen, B, WAITING_HERE).blockedBy()).containsExactly(Sessions.pid(other));
    }

    @Test
    void requestForSeveralKeys_isShownAtTheGateWhereItStands() {
        DefaultAdvisoryLocks locks = clients.open(server);
        for (boolean inSession : new boolean[] {false, true}) {
            LockRequest one = inSession ? locks.exclusive(B).inSession() : locks.exclusive(B);
            LockRequest all = inSession ? locks.exclusive(A, B, C).inSession() : locks.exclusive(A, B, C);
            HeldLock hold = acquire(one);
            Disposable wait = all.guard(Mono.never()).subscribe();
            LockInfo waiter = only(look(locks), B, WAITING_HERE);
            assertThat(waiter.blockedBy()).containsExactly(hold.backendPid());
            assertThat(in(look(locks), WAITING_HERE)).hasSize(1);
            wait.dispose();
            release(hold);
        }
    }

    @Test
    void permits_areShownByTheirSlots_andWhoeverWaitsForOneByAllThatHaveOne() {
        DefaultAdvisoryLocks locks = clients.open(server);
        DefaultAdvisoryLocks others = clients.open(server);
        HeldLock mine = acquire(locks.permit(A, 2));
        HeldLock theirs = acquire(others.permit(A, 2));
        waiting(locks.permit(A, 2));
        HeldLock unnamed = acquire(locks.permit(LockKey.of(5), 1));
        List<LockInfo> seen = look(locks);
        assertThat(in(seen, HELD).stream().flatMap(lock -> lock.names().stream()))
                .containsExactlyInAnyOrder(
                        "inspected/a (permit 1 of 2)", "inspected/a (permit 2 of 2)", "bigint 5 (permit 1 of 1)");
        LockInfo waiter = only(seen, A, WAITING_HERE);
        assertThat(waiter.names()).containsExactly("inspected/a (one of 2 permits)");
        assertThat(waiter.blockedBy()).containsExactlyInAnyOrder(mine.backendPid(), theirs.backendPid());
        // the key itself is another lock
        waiting(locks.exclusive(A));
        Await.until("the lock", () -> in(look(locks), HELD).size() == 4);
        assertThat(only(look(locks), A, HELD).names()).containsExactly("inspected/a");
        waits.dispose();
        List.of(mine, theirs, unnamed).forEach(TestClients::release);
    }

    @Test
    void holdersThatShareOneLock_areOneEntry_sinceTheOldest() {
        DefaultAdvisoryLocks locks = clients.open(server);
        Instant before = serverNow();
        HeldLock first = acquire(locks.shared(A).inSession());
        Instant between = serverNow();
        Await.rest(Duration.ofMillis(600));
        HeldLock second = acquire(locks.shared(A).inSession());
        LockInfo shared = only(look(locks), A, HELD);
        // on the server's clock, to a round trip
        assertThat(shared.since().orElseThrow()).isBetween(before.minusMillis(500), between.plusMillis(500));
        release(first);
        assertThat(only(look(locks), A, HELD).since().orElseThrow())
                .isAfter(shared.since().orElseThrow().plusMillis(300));
        release(second);
    }

    @Test
    void nestedLocks_areShownWithTheirNames_alsoAfterTheirOwnHoldHasEnded() {
        DefaultAdvisoryLocks locks = clients.open(server);
        HeldLock outer = acquire(locks.exclusive(A));
        Mono<List<LockInfo>> inside =
                outer.guard(locks.exclusive(B).guard(locks.inspect().collectList()));
        LockInfo inner = only(Objects.requireNonNull(inside.block(PATIENCE)), B, HELD);
        assertThat(inner.pid()).hasValue(outer.backendPid());
        assertThat(inner.since()).isPresent();
        List<LockInfo> seen = look(locks);
        assertThat(only(seen, B, HELD).names()).containsExactly("inspected/b");
        assertThat(only(seen, B, HELD).since()).as("not noted").isEmpty();
        assertThat(only(seen, A, HELD).since()).isPresent();
        release(outer);
    }

    @Test
    void statements_carryTheirNamespace_whereItIsPlain_andNothingElse() {
        String query =
                "select query from pg_stat_activity where wait_event = 'advisory' and application_name = 'r2lock'";
        DefaultAdvisoryLocks locks = clients.open(server);
        LockKey odd = LockKey.named("x*/;select pg_sleep(0)--\n", "é");
        PostgresqlConnection other = TestClients.holdElsewhere(sessions, A.value(), odd.value());
        HeldLock outer = acquire(locks.exclusive(C));
        List<Mono<Object>> waiters = List.of(
                locks.exclusive(A).guard(Mono.never()),
                outer.guard(locks.shared(A).guard(Mono.never())),
                locks.exclusive(A).inSession().guard(Mono.never()),
                locks.exclusive(odd).guard(Mono.never()));
        List<String> statements = new ArrayList<>();
        for (Mono<Object> waiter : waiters) {
            Disposable wait = waiter.subscribe();
            sessions.awaitWaiting(1);
            statements.add(String.valueOf(server.query(query).get(0).get("query")));
            wait.dispose();
            sessions.awaitWaiting(0);
        }
        assertThat(statements.subList(0, 3))
                .allSatisfy(sql ->
                        assertThat(sql).containsPattern("lock(_shared)?\\(" + A.value() + "\\)/\\*inspected\\*/"));
        assertThat(statements.get(3)).contains("lock(" + odd.value() + ")").doesNotContain("/*", "sleep");
        release(outer);
        assertThat(Sessions.pid(other)).isPositive();
    }
}

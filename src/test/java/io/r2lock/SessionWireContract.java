package io.r2lock;

import static io.r2lock.SessionCall.Answer.BUSY;
import static io.r2lock.SessionCall.Answer.CLAIMED;
import static io.r2lock.SessionCall.Answer.FAILED;
import static io.r2lock.SessionCall.Answer.GRANTED;
import static io.r2lock.SessionCall.Answer.NOT_HELD;
import static io.r2lock.SessionCall.Answer.RELEASED;
import static org.assertj.core.api.Assertions.assertThat;

import io.r2dbc.postgresql.api.PostgresqlConnection;
import io.r2lock.SessionCalls.Call;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicIntegerArray;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import reactor.core.scheduler.Schedulers;

/** Session locks on a real server. */
abstract class SessionWireContract {

    private static final List<LockKey> EDGES = List.of(
            LockKey.of(Long.MIN_VALUE),
            LockKey.of(Long.MAX_VALUE),
            LockKey.of(-1),
            LockKey.of(0),
            LockKey.of((1L << 32) + 2),
            LockKey.of(1, 2),
            LockKey.of(0, 0),
            LockKey.of(-1, -1),
            LockKey.of(Integer.MIN_VALUE, Integer.MAX_VALUE),
            LockKey.of(Integer.MAX_VALUE, Integer.MIN_VALUE));

    private final TestServer server;
    private final Sessions sessions;

    @RegisterExtension
    final NoResidue residue;

    SessionWireContract(TestServer server) {
        this.server = server;
        sessions = new Sessions(server);
        residue = NoResidue.on(server);
    }

    @AfterEach
    void close() {
        sessions.close();
    }

    private SessionConnection open(SessionCalls told) {
        PostgresqlConnection wire = sessions.open();
        return new SessionConnection(wire, Sessions.pid(wire), Schedulers.parallel(), told);
    }

    private static Call lock(SessionConnection connection, LockKey key, LockMode mode) {
        return awaited(SessionCalls.lock(connection, key, mode));
    }

    private static Call unlock(SessionConnection connection, LockKey key, LockMode mode) {
        return awaited(SessionCalls.unlock(connection, key, mode));
    }

    static Call awaited(Call call) {
        Await.until("answer", call::isAnswered);
        return call;
    }

    /** What this backend holds, as another one sees it. */
    private long held(SessionConnection connection) {
        return server.count(
                "select count(*) from pg_locks where locktype = 'advisory' and granted and pid = " + connection.pid());
    }

    @Test
    void everyKind_aloneAndTogether_excludesTheOtherSession() {
        SessionConnection one = open(new SessionCalls());
        SessionConnection other = open(new SessionCalls());
        for (LockMode mode : LockMode.values()) {
            for (boolean together : new boolean[] {false, true}) {
                take(one, mode, together);
                assertThat(held(one)).as("no two keys are one lock").isEqualTo(EDGES.size());
                for (LockKey key : EDGES) {
                    assertThat(lock(other, key, LockMode.EXCLUSIVE).answer).isEqualTo(BUSY);
                    Call shared = lock(other, key, LockMode.SHARED);
                    assertThat(shared.answer).isEqualTo(mode == LockMode.SHARED ? GRANTED : BUSY);
                    if (mode == LockMode.SHARED) {
                        assertThat(unlock(other, key, LockMode.SHARED).answer).isEqualTo(RELEASED);
                    }
                }
                List<Call> releases = EDGES.stream()
                        .map(key -> SessionCalls.unlock(one, key, mode))
                        .toList();
                assertThat(releases).allMatch(call -> awaited(call).answer == RELEASED);
                assertThat(held(one)).isZero();
            }
        }
        assertThat(one.claims().keys() + other.claims().keys()).isZero();
    }

    private static void take(SessionConnection connection, LockMode mode, boolean together) {
        if (together) {
            List<Call> calls = EDGES.stream()
                    .map(key -> SessionCalls.lock(connection, key, mode))
                    .toList();
            assertThat(calls).allMatch(call -> awaited(call).answer == GRANTED);
        } else {
            assertThat(EDGES).allMatch(key -> lock(connection, key, mode).answer == GRANTED);
        }
    }

    @Test
    void mixedKinds_shareAMessage_andAnswersFindTheirCalls() {
        SessionConnection one = open(new SessionCalls());
        PostgresqlConnection elsewhere = sessions.open();
        Sessions.run(elsewhere, "select pg_advisory_lock(i) from generate_series(0, 999, 3) i");
        Sessions.run(elsewhere, "select pg_advisory_lock(0, i) from generate_series(0, 999, 7) i");
        List<Call> bigints = new ArrayList<>();
        List<Call> pairs = new ArrayList<>();
        for (int i = 0; i < 1_000; i++) {
            LockMode mode = i % 2 == 0 ? LockMode.EXCLUSIVE : LockMode.SHARED;
            bigints.add(SessionCalls.lock(one, LockKey.of(i), mode));
            pairs.add(SessionCalls.lock(one, LockKey.of(0, i), mode));
        }
        for (int i = 0; i < 1_000; i++) {
            assertThat(awaited(bigints.get(i)).answer).isEqualTo(i % 3 == 0 ? BUSY : GRANTED);
            assertThat(awaited(pairs.get(i)).answer).isEqualTo(i % 7 == 0 ? BUSY : GRANTED);
        }
        assertThat(held(one)).isEqualTo(one.claims().held());
        assertThat(one.claims().held()).isEqualTo(666 + 857);
        one.close();
        one.closed().block(TestClients.PATIENCE);
    }

    @Test
    void anUnlockThatAnswersFalse_isALoss() {
        PostgresqlConnection wire = sessions.open();
        SessionConnection one =
                new SessionConnection(wire, Sessions.pid(wire), Schedulers.parallel(), new SessionCalls());
        LockKey key = LockKey.of(8_001);
        LockKey other = LockKey.of(8_002);
        lock(one, key, LockMode.EXCLUSIVE);
        lock(one, other, LockMode.EXCLUSIVE);
        Sessions.run(wire, "select pg_advisory_unlock(8001)");
        assertThat(unlock(one, key, LockMode.EXCLUSIVE).answer).isEqualTo(NOT_HELD);
        assertThat(unlock(one, other, LockMode.EXCLUSIVE).answer).isEqualTo(RELEASED);
    }

    @Test
    void aTerminatedBackend_endsAllItsLocksAndOnlyThose() {
        SessionCalls told = new SessionCalls();
        SessionConnection dying = open(told);
        SessionConnection other = open(new SessionCalls());
        List<LockKey> keys = IntStream.range(0, 500).mapToObj(LockKey::of).toList();
        keys.forEach(key -> SessionCalls.lock(dying, key));
        Await.until("grants", () -> dying.claims().held() == keys.size());
        LockKey others = LockKey.of(9_000);
        lock(other, others, LockMode.EXCLUSIVE);

        server.execute("select pg_terminate_backend(" + dying.pid() + ")");
        Await.until("end", () -> !told.ends.isEmpty());
        assertThat(told.ends).hasSize(1);
        assertThat(lock(dying, LockKey.of(1), LockMode.EXCLUSIVE).answer).isEqualTo(FAILED);
        assertThat(other.claims().held()).isEqualTo(1);
        assertThat(unlock(other, others, LockMode.EXCLUSIVE).answer).isEqualTo(RELEASED);
    }

    @Test
    void terminatedUnderLoad_answersEveryCallOnce() {
        int[] mixed = new int[1];
        for (int round = 0; round < 20; round++) {
            SessionCalls told = new SessionCalls();
            SessionConnection dying = open(told);
            List<Call> calls = new ArrayList<>();
            calls.add(lock(dying, LockKey.of(-1), LockMode.EXCLUSIVE));
            Schedulers.boundedElastic()
                    .schedule(() -> server.execute("select pg_terminate_backend(" + dying.pid() + ")"));
            int next = 0;
            while (told.ends.isEmpty()) {
                for (int i = 0; i < 500; i++) {
                    calls.add(SessionCalls.lock(dying, LockKey.of(next++)));
                }
                awaited(calls.get(calls.size() - 500));
            }
            assertThat(calls).allMatch(call -> awaited(call).answers.get() == 1);
            assertThat(told.ends).hasSize(1);
            boolean granted = calls.stream().anyMatch(call -> call.answer == GRANTED);
            mixed[0] += granted && calls.stream().anyMatch(call -> call.answer == FAILED) ? 1 : 0;
        }
        assertThat(mixed[0]).as("rounds with grants and failures").isPositive();
    }

    @Test
    void storm_ofTwoConnections_grantsNothingTwice() throws InterruptedException {
        SessionCalls told = new SessionCalls();
        List<SessionConnection> two = List.of(open(told), open(told));
        int keys = 50;
        int callers = 32;
        AtomicIntegerArray exclusive = new AtomicIntegerArray(keys);
        AtomicIntegerArray shared = new AtomicIntegerArray(keys);
        CountDownLatch done = new CountDownLatch(callers);
        for (int i = 0; i < callers; i++) {
            SessionConnection connection = two.get(i % 2);
            Schedulers.parallel()
                    .schedule(() -> new Stormer(connection, exclusive, shared, done, new AtomicInteger(500)).next());
        }
        assertThat(done.await(60, TimeUnit.SECONDS)).isTrue();
        for (SessionConnection connection : two) {
            assertThat(held(connection)).isEqualTo(connection.claims().held());
        }
        assertThat(two.get(0).claims().keys() + two.get(1).claims().keys()).isZero();
        assertThat(told.ends).isEmpty();
    }

    /** Locks a random key in a random mode on its connection, checks the model, unlocks. */
    private record Stormer(
            SessionConnection connection,
            AtomicIntegerArray exclusive,
            AtomicIntegerArray shared,
            CountDownLatch done,
            AtomicInteger left) {

        void next() {
            if (left.getAndDecrement() == 0) {
                done.countDown();
                return;
            }
            int slot = ThreadLocalRandom.current().nextInt(exclusive.length());
            LockKey key = slot % 2 == 0 ? LockKey.of(slot) : LockKey.of(slot, -slot);
            LockMode mode = ThreadLocalRandom.current().nextBoolean() ? LockMode.EXCLUSIVE : LockMode.SHARED;
            connection.lock(key, mode, (answer, error) -> {
                if (answer == GRANTED) {
                    // later, on another thread: the hold must last in between
                    Schedulers.parallel().schedule(() -> hold(slot, key, mode));
                } else {
                    assertThat(answer).isIn(BUSY, CLAIMED);
                    next();
                }
            });
        }

        private void hold(int slot, LockKey key, LockMode mode) {
            AtomicIntegerArray mine = mode == LockMode.EXCLUSIVE ? exclusive : shared;
            int holders = mine.incrementAndGet(slot);
            if (mode == LockMode.EXCLUSIVE) {
                assertThat(holders).isEqualTo(1);
                assertThat(shared.get(slot)).isZero();
            } else {
                assertThat(exclusive.get(slot)).isZero();
            }
            mine.decrementAndGet(slot);
            connection.unlock(key, mode, (answer, error) -> {
                assertThat(answer).isEqualTo(RELEASED);
                next();
            });
        }
    }
}

package io.r2lock;

import static io.r2lock.SessionCall.Answer.CLAIMED;
import static io.r2lock.SessionCall.Answer.FAILED;
import static io.r2lock.SessionCall.Answer.GRANTED;
import static io.r2lock.SessionCall.Answer.NOT_HELD;
import static io.r2lock.SessionCall.Answer.RELEASED;
import static io.r2lock.SessionCalls.lock;
import static io.r2lock.SessionCalls.unlock;
import static org.assertj.core.api.Assertions.assertThat;

import io.r2lock.SessionCalls.Call;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicIntegerArray;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import reactor.core.scheduler.Scheduler;
import reactor.core.scheduler.Schedulers;
import reactor.test.scheduler.VirtualTimeScheduler;
import reactor.test.util.RaceTestUtils;

/** Threads against each other: every call is told once, and the claims are what the server holds. */
class SessionRaceTest {

    private static final int ROUNDS = 10_000;
    private static final LockKey A = LockKey.of(1);
    private static final LockKey B = LockKey.of(2);

    @RegisterExtension
    final NoResidue residue = NoResidue.on();

    private final VirtualTimeScheduler clock = VirtualTimeScheduler.create();

    private static void race(int round, Runnable one, Runnable other) {
        if (round % 2 == 0) {
            RaceTestUtils.race(one, other);
        } else {
            RaceTestUtils.race(other, one);
        }
    }

    private static void assertAnsweredOnce(Call... calls) {
        assertThat(calls).extracting(call -> call.answers.get()).containsOnly(1);
    }

    @Test
    void twoCallers_oneKey() {
        for (int i = 0; i < ROUNDS; i++) {
            FakeSession server = new FakeSession().answersAtOnce();
            SessionConnection connection = new SessionConnection(server.wire(), 1, clock, new SessionCalls());
            Call[] calls = new Call[2];
            race(i, () -> calls[0] = lock(connection, A), () -> calls[1] = lock(connection, A));
            assertAnsweredOnce(calls);
            assertThat(List.of(calls)).extracting(call -> call.answer).containsExactlyInAnyOrder(GRANTED, CLAIMED);
            Call[] releases = new Call[2];
            race(i, () -> releases[0] = unlock(connection, A), () -> releases[1] = unlock(connection, A));
            assertThat(List.of(releases)).extracting(call -> call.answer).containsExactlyInAnyOrder(RELEASED, NOT_HELD);
            assertThat(server.held()).isEmpty();
            assertThat(connection.claims().keys()).isZero();
        }
    }

    @Test
    void aCall_againstTheAnswerOfAnother() {
        for (int i = 0; i < ROUNDS; i++) {
            FakeSession server = new FakeSession();
            SessionConnection connection = new SessionConnection(server.wire(), 1, clock, new SessionCalls());
            Call first = lock(connection, A);
            Call[] later = new Call[2];
            race(i, server::answer, () -> {
                later[0] = unlock(connection, A);
                later[1] = lock(connection, B);
            });
            server.answerAll();
            assertAnsweredOnce(first, later[0], later[1]);
            assertThat(later[0].answer).isEqualTo(RELEASED);
            assertThat(server.held()).hasSize(1);
            assertThat(connection.claims().held()).isEqualTo(1);
        }
    }

    @Test
    void close_againstAnAnswer() {
        for (int i = 0; i < ROUNDS; i++) {
            FakeSession server = new FakeSession();
            SessionCalls told = new SessionCalls();
            SessionConnection connection = new SessionConnection(server.wire(), 1, clock, told);
            Call a = lock(connection, A);
            Call b = lock(connection, B);
            Call behind = unlock(connection, A);
            race(i, server::answer, connection::close);
            Call late = lock(connection, A);
            server.answerAll();
            assertAnsweredOnce(a, b, behind, late);
            assertThat(a.answer).isIn(GRANTED, FAILED);
            assertThat(late.answer).isEqualTo(FAILED);
            assertThat(told.ends).hasSize(1);
            assertThat(server.closes).hasValue(1);
            assertThat(connection.claims().keys()).isZero();
        }
    }

    @Test
    void theEndOfTheSocket_againstCallsAndTheDeadline() {
        for (int i = 0; i < ROUNDS; i++) {
            FakeSession server = new FakeSession();
            SessionCalls told = new SessionCalls();
            SessionConnection connection = new SessionConnection(server.wire(), 1, clock, told);
            Call a = lock(connection, A);
            Call[] late = new Call[2];
            race(i, () -> server.breaks(SessionCalls.error("08006")), () -> {
                late[0] = lock(connection, B);
                late[1] = unlock(connection, A);
            });
            connection.close();
            assertAnsweredOnce(a, late[0], late[1]);
            assertThat(told.ends).hasSize(1);
            assertThat(server.closes).hasValue(1);
        }
    }

    /** Many callers, few keys, a server on a thread of its own, of whose messages every tenth fails somewhere. */
    @Test
    void stormWithFailures() throws InterruptedException {
        int keys = 40;
        int callers = 16;
        int callsEach = 5_000;
        FakeSession server = new FakeSession();
        // a failure of what reconciles, which takes no locks, would end the connection
        server.failures =
                number -> number % 10 == 9 && server.messages.get(number).contains("pg_try")
                        ? failure(server.messages.get(number))
                        : null;
        SessionCalls told = new SessionCalls();
        SessionConnection connection = new SessionConnection(server.wire(), 1, clock, told);
        AtomicIntegerArray holders = new AtomicIntegerArray(keys);
        AtomicInteger failed = new AtomicInteger();
        CountDownLatch done = new CountDownLatch(callers);
        // a thread that may block: to end a periodic task in the JDK's executor takes its lock
        Scheduler backend = Schedulers.newBoundedElastic(1, 100, "fake-backend");
        Scheduler threads = Schedulers.newParallel("callers", 4);
        backend.schedulePeriodically(server::answerAll, 0, 20, TimeUnit.MICROSECONDS);
        for (int i = 0; i < callers; i++) {
            threads.schedule(() -> new Stormer(connection, holders, failed, done, new AtomicInteger(callsEach)).next());
        }
        assertThat(done.await(60, TimeUnit.SECONDS)).isTrue();
        Await.until("rest", () -> connection.claims().keys() == 0);
        backend.dispose();
        threads.dispose();
        assertThat(server.held()).isEmpty();
        assertThat(told.ends).isEmpty();
        assertThat(told.lost).isEmpty();
        assertThat(failed).hasPositiveValue();
        assertThat(server.mostInFlight).hasValue(2);
    }

    /** Somewhere in the message, its unlocks included. */
    private static FakeSession.Failure failure(String message) {
        int after =
                ThreadLocalRandom.current().nextInt(FakeSession.keys(message).size());
        return new FakeSession.Failure(after, SessionCalls.error("53200"));
    }

    /** One caller: takes a random key, and if it is granted gives it back. */
    private record Stormer(
            SessionConnection connection,
            AtomicIntegerArray holders,
            AtomicInteger failed,
            CountDownLatch done,
            AtomicInteger left) {

        void next() {
            if (left.getAndDecrement() == 0) {
                done.countDown();
                return;
            }
            int key = ThreadLocalRandom.current().nextInt(holders.length());
            connection.lock(LockKey.of(key), LockMode.EXCLUSIVE, (answer, error) -> {
                switch (answer) {
                    case GRANTED -> {
                        assertThat(holders.incrementAndGet(key)).isEqualTo(1);
                        giveBack(key);
                    }
                    case FAILED -> {
                        failed.incrementAndGet();
                        next();
                    }
                    default -> next();
                }
            });
        }

        private void giveBack(int key) {
            holders.decrementAndGet(key);
            connection.unlock(LockKey.of(key), LockMode.EXCLUSIVE, (answer, error) -> {
                assertThat(answer).isEqualTo(RELEASED);
                next();
            });
        }
    }
}

package io.r2lock;

import static io.r2lock.FakeClient.KEY;
import static org.assertj.core.api.Assertions.assertThat;

import java.time.Duration;
import java.util.concurrent.CompletableFuture;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.slf4j.event.Level;
import reactor.test.util.RaceTestUtils;

/**
 * Session holds of one client, and what may meet: whatever the server has granted is given back, or its connection ends; every
 * caller is told once; nothing stays at the gates.
 */
class SessionHoldRaceTest {

    private static final int ROUNDS = 10_000;

    @RegisterExtension
    final NoResidue residue = NoResidue.on();

    private final FakeClient client = new FakeClient();

    @AfterEach
    void close() {
        client.close();
    }

    private static void race(int round, Runnable one, Runnable other) {
        if (round % 2 == 0) {
            RaceTestUtils.race(one, other);
        } else {
            RaceTestUtils.race(other, one);
        }
    }

    private FakeSession silent() {
        client.answersAtOnce = false;
        return client.open();
    }

    @Test
    void grant_againstCancel() {
        FakeSession server = silent();
        for (int i = 0; i < ROUNDS; i++) {
            FakeCaller caller = client.acquire();
            assertThat(server.inFlight()).isEqualTo(1);
            race(i, server::answer, caller::cancel);
            server.answerAll();
            caller.assertToldAtMostOnce();
            client.assertRest();
        }
    }

    @Test
    void handOver_againstCancelOfTheHeir() {
        FakeSession server = client.open();
        for (int i = 0; i < ROUNDS; i++) {
            FakeCaller holder = client.acquire();
            FakeCaller heir = client.acquire();
            FakeCaller next = client.acquire();
            int before = server.messages.size();
            race(i, holder::release, heir::cancel);
            heir.assertToldAtMostOnce();
            next.assertToldOnce();
            assertThat(server.messages).as("all that had one lock").hasSize(before);
            next.release();
            client.assertRest();
        }
    }

    @Test
    void unlockOnItsWay_againstANewWaiter() {
        FakeSession server = silent();
        for (int i = 0; i < ROUNDS; i++) {
            FakeCaller holder = client.acquire();
            server.answer();
            holder.release();
            assertThat(server.inFlight()).as("the unlock").isEqualTo(1);
            FakeCaller[] late = new FakeCaller[1];
            race(i, server::answer, () -> late[0] = client.acquire());
            server.answerAll();
            late[0].assertToldOnce();
            late[0].release();
            server.answerAll();
            client.assertRest();
        }
    }

    @Test
    void sharedJoin_againstTheReleaseOfTheLast() {
        client.open();
        LockRequest shared = client.locks.shared(KEY);
        for (int i = 0; i < ROUNDS; i++) {
            FakeCaller last = client.acquire(shared);
            FakeCaller[] late = new FakeCaller[1];
            race(i, last::release, () -> late[0] = client.acquire(shared));
            late[0].assertToldOnce();
            assertThat(client.newest().held()).hasSize(1);
            late[0].release();
            client.assertRest();
        }
    }

    /** By readers of several keys, who are inside already when they find that the process has the lock. */
    @Test
    void sharedJoinOfTheSecondKey_againstTheReleaseOfTheLast() {
        client.open();
        LockRequest one = client.locks.shared(KEY);
        LockRequest both = client.locks.shared(KEY, LockKey.of(2));
        for (int i = 0; i < ROUNDS; i++) {
            FakeCaller last = client.acquire(one);
            FakeCaller[] late = new FakeCaller[1];
            race(i, last::release, () -> late[0] = client.acquire(both));
            // no connection is there to wait on: who could not join tries again later
            FakeClient.until("an answer", () -> {
                client.clock.advanceTimeBy(Duration.ofMillis(100));
                return late[0].isTold();
            });
            late[0].assertToldOnce();
            assertThat(client.newest().held()).hasSize(2);
            late[0].release();
            client.assertRest();
        }
    }

    @Test
    void endOfTheConnection_againstTheHandOver() {
        residue.allowLog(Level.WARN, "io.r2lock.AdvisoryLocks");
        for (int i = 0; i < ROUNDS; i++) {
            FakeSession server = client.open();
            FakeCaller holder = client.acquire();
            FakeCaller heir = client.acquire();
            race(i, holder::release, () -> server.breaks(SessionCalls.error("08006")));
            heir.assertToldOnce();
            HeldLock held = heir.hold();
            if (client.newest() == server) {
                FakeClient.until("loss", () -> held.lost().toFuture().isCompletedExceptionally());
            } else {
                assertThat(client.newest().held()).hasSize(1);
                assertThat(held.lost().toFuture()).isNotDone();
            }
            heir.release();
            client.assertRest();
        }
    }

    /** The server does not have it any more, which another failure brings to light. */
    @Test
    void lossOfOneLock_againstItsRelease() {
        residue.allowLog(Level.WARN, "io.r2lock.AdvisoryLocks");
        FakeSession server = silent();
        int[] fails = new int[1];
        server.failures = number -> number == fails[0] ? new FakeSession.Failure(0, SessionCalls.error("53200")) : null;
        for (int i = 0; i < ROUNDS; i++) {
            fails[0] = -1;
            FakeCaller holder = client.acquire();
            server.answerAll();
            HeldLock held = holder.hold();
            CompletableFuture<Void> ended = held.lost().toFuture();
            server.forget(KEY);
            fails[0] = server.messages.size();
            FakeCaller other = client.acquire(client.locks.exclusive(LockKey.of(2)));
            server.answer();
            // what reconciles is on its way
            race(i, server::answer, holder::release);
            server.answerAll();
            other.assertToldOnce();
            assertThat(other.error()).isInstanceOf(LockCapacityException.class);
            FakeClient.until("end", ended::isDone);
            FakeCaller next = client.acquire();
            server.answerAll();
            next.assertToldOnce();
            assertThat(next.hasHold()).isTrue();
            next.release();
            server.answerAll();
            client.assertRest();
        }
    }
}

package io.r2lock;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.concurrent.CompletableFuture;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import reactor.test.util.RaceTestUtils;

/** The end of a client against all that can happen to session holds: everybody is told, and every connection is closed. */
class SessionCloseRaceTest {

    private static final int ROUNDS = 10_000;

    @RegisterExtension
    final NoResidue residue = NoResidue.on();

    private FakeClient client = new FakeClient();
    private CompletableFuture<Void> closed = new CompletableFuture<>();

    private void race(int round, Runnable other) {
        Runnable close = () -> closed = client.locks.close().toFuture();
        if (round % 2 == 0) {
            RaceTestUtils.race(close, other);
        } else {
            RaceTestUtils.race(other, close);
        }
    }

    private static void assertToldOnce(FakeCaller caller) {
        caller.assertToldOnce();
        assertThat(caller.hasHold() || caller.error() instanceof LocksClosedException)
                .as("%s", caller.error())
                .isTrue();
    }

    /** Holds that nobody ends are ended after the grace. */
    private void assertEnd() {
        client.sessions.forEach(FakeSession::answerAll);
        client.graceIsOver();
        FakeClient.until("end", () -> {
            client.sessions.forEach(FakeSession::answerAll);
            return closed.isDone() && client.sessions.stream().allMatch(session -> session.closes.get() == 1);
        });
        assertThat(closed).isCompleted();
        assertThat(client.locks.live()).isZero();
        assertThat(client.locks.gates().size()).isZero();
        assertThat(client.locks.sessions().held()).isZero();
        client.close();
        client = new FakeClient();
    }

    @Test
    void against_aGrant() {
        for (int i = 0; i < ROUNDS; i++) {
            client.answersAtOnce = false;
            FakeSession server = client.open();
            FakeCaller caller = client.acquire();
            race(i, server::answer);
            server.answerAll();
            assertToldOnce(caller);
            assertEnd();
        }
    }

    @Test
    void against_aHandOver() {
        for (int i = 0; i < ROUNDS; i++) {
            client.open();
            FakeCaller holder = client.acquire();
            FakeCaller heir = client.acquire();
            FakeCaller next = client.acquire();
            race(i, holder::release);
            assertToldOnce(heir);
            heir.release();
            assertToldOnce(next);
            assertEnd();
        }
    }

    @Test
    void against_aCancelOfWhoWaits() {
        for (int i = 0; i < ROUNDS; i++) {
            client.open();
            FakeCaller holder = client.acquire();
            FakeCaller waiter = client.acquire();
            race(i, waiter::cancel);
            assertThat(waiter.hasHold()).isFalse();
            holder.assertToldOnce();
            assertEnd();
        }
    }

    @Test
    void against_theLossOfAConnection() {
        residue.allowLog(org.slf4j.event.Level.WARN, "io.r2lock.AdvisoryLocks");
        for (int i = 0; i < ROUNDS; i++) {
            FakeSession server = client.open();
            FakeCaller holder = client.acquire();
            FakeCaller waiter = client.acquire();
            race(i, () -> server.breaks(SessionCalls.error("08006")));
            holder.assertToldOnce();
            assertToldOnce(waiter);
            assertEnd();
        }
    }

    @Test
    void against_theOpeningOfTheConnection() {
        for (int i = 0; i < ROUNDS; i++) {
            FakeCaller[] caller = new FakeCaller[1];
            race(i, () -> caller[0] = client.acquire());
            assertToldOnce(caller[0]);
            assertEnd();
        }
    }
}

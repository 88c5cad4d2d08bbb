package io.r2lock;

import static org.assertj.core.api.Assertions.assertThat;

import java.time.Duration;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

/** A shared connection that breaks while somebody tries to lock on it. */
class BrokenConnectionTest {

    private static final Duration PATIENCE = Duration.ofSeconds(20);

    private final FakeClient client = new FakeClient();

    @AfterEach
    void close() {
        client.close();
    }

    /** Whoever is told that it broke must not find it again: it would try in vain a second time, and that is an error. */
    @Test
    void isReplaced_forLocksAndForPermits() {
        List<LockRequest> requests =
                List.of(client.locks.exclusive(FakeClient.KEY).inSession(), client.locks.permit(FakeClient.KEY, 1));
        for (LockRequest request : requests) {
            client.answersAtOnce = false;
            FakeSession old = client.open();
            client.answersAtOnce = true;
            CompletableFuture<HeldLock> hold = request.acquire().toFuture();
            FakeClient.until("a try", () -> old.inFlight() == 1);
            old.breaks(SessionCalls.error("57P01"));
            assertThat(hold).succeedsWithin(PATIENCE);
            assertThat(old.closes).hasValue(1);
            hold.join().release().block(PATIENCE);
            client.newest().breaks(SessionCalls.error("08006"));
            FakeClient.until("end", () -> client.slot().open() == null);
        }
    }
}

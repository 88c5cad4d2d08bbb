package io.r2lock;

import static org.assertj.core.api.Assertions.assertThat;

import java.time.Duration;
import java.util.concurrent.CompletableFuture;
import java.util.stream.LongStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

/** A request for keys of two connections, one of which breaks under its try. */
class PartlyBrokenTest {

    private static final Duration PATIENCE = Duration.ofSeconds(20);
    private static final LockKey FIRST = LockKey.of(1);

    private final FakeClient client = new FakeClient(2);

    @AfterEach
    void close() {
        client.close();
    }

    private FakeSession open(LockKey key) {
        client.locks.sessions().slot(key).opened().block(PATIENCE);
        return client.newest();
    }

    /** It is given back when the first one turns out to be busy: whoever shared it would hold nothing then. */
    @Test
    void keyBehindTheBrokenOne_isSharedWithNobody() {
        SessionLocks sessions = client.locks.sessions();
        LockKey second = LongStream.range(2, 1_000)
                .mapToObj(LockKey::of)
                .filter(key -> sessions.slot(key) != sessions.slot(FIRST))
                .findFirst()
                .orElseThrow();
        client.answersAtOnce = false;
        FakeSession broken = open(FIRST);
        FakeSession whole = open(second);
        CompletableFuture<HeldLock> both =
                client.locks.shared(FIRST, second).inSession().acquire().toFuture();
        FakeClient.until("tries", () -> broken.inFlight() == 1 && whole.inFlight() == 1);
        whole.answer();
        broken.breaks(SessionCalls.error("57P01"));
        FakeClient.until(
                "a new connection",
                () -> client.newest() != whole && client.newest().inFlight() == 1);

        CompletableFuture<HeldLock> late =
                client.locks.shared(second).inSession().noWait().acquire().toFuture();
        assertThat(late).failsWithin(PATIENCE).withThrowableThat().withCauseInstanceOf(LockNotAvailableException.class);
        client.newest().busy(FIRST).answerAll();
        FakeClient.until("what was given back", () -> whole.inFlight() == 1);
        whole.answerAll();
        assertThat(whole.held()).isEmpty();
        both.cancel(false);
        client.newest().answerAll();
        FakeClient.until("rest", () -> client.locks.live() == 0);
    }
}

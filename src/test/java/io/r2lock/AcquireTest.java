package io.r2lock;

import static org.assertj.core.api.Assertions.assertThat;

import java.time.Duration;
import java.util.List;
import java.util.concurrent.atomic.AtomicInteger;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.reactivestreams.Subscription;
import reactor.core.publisher.BaseSubscriber;
import reactor.core.publisher.Mono;
import reactor.core.scheduler.Schedulers;

/** Instants of an attempt that a race rarely finds, each brought about on one thread. */
class AcquireTest {

    private static final Duration SOON = Duration.ofSeconds(10);
    private static final LockKey KEY = LockKey.of(1);

    private final DefaultAdvisoryLocks client =
            FakeConnection.client(generation -> Mono.fromSupplier(FakeConnection::granting), 2);

    @AfterEach
    void close() {
        client.close().block(SOON);
    }

    @Test
    void cancelBeforeTheAttemptBegins_leavesNothingLive() {
        client.withAdvisoryLock(KEY, Mono.just(1)).subscribe(new BaseSubscriber<>() {
            @Override
            protected void hookOnSubscribe(Subscription subscription) {
                cancel();
            }
        });
        assertThat(client.live()).isZero();
        assertThat(client.waiting()).isZero();
        client.close().block(SOON);
    }

    @Test
    void stopAfterARefusalThatCameBeforeTheSenderReturned_sendsNoCancelRequest() {
        AtomicInteger cancelRequests = new AtomicInteger();
        LockConnection connection = FakeConnection.open(
                Schedulers.parallel(),
                sql -> Mono.just(false),
                () -> Mono.fromRunnable(cancelRequests::incrementAndGet));
        LockSpec spec = LockSpec.of(List.of(KEY), LockMode.EXCLUSIVE, null).notWaiting(false);
        StatementAcquire attempt = new StoppedWhenRefused(client, spec);

        client.begin(attempt);
        attempt.lock(connection, "lock", true);
        assertThat(attempt.phase()).isEqualTo("STOPPING");
        attempt.fail(Acquire.UNDOING, new IllegalStateException("busy"));

        assertThat(cancelRequests).as("it would hit the next borrower").hasValue(0);
        assertThat(attempt.phase()).isEqualTo("ENDED");
        assertThat(client.live()).isZero();
    }

    /** Its caller cancels while a refused lock is being undone. */
    private static final class StoppedWhenRefused extends StatementAcquire {

        StoppedWhenRefused(DefaultAdvisoryLocks client, LockSpec spec) {
            super(client, spec, null, new Receiver() {
                @Override
                public void admitted(Acquire attempt) {
                    throw new AssertionError("the attempt is there already");
                }

                @Override
                public void granted(Hold hold) {
                    throw new AssertionError("granted");
                }

                @Override
                public void failed(Throwable error) {
                    throw new AssertionError("a cancelled caller was told", error);
                }
            });
        }

        @Override
        void begin() {
            advance(QUEUED, BORROWING);
        }

        @Override
        void withdraw() {
            // nothing to withdraw from
        }

        @Override
        void granted() {
            throw new AssertionError("granted");
        }

        @Override
        void refused(@Nullable Throwable error) {
            stop(Stop.CANCELLED);
        }

        @Override
        void undo() {
            stopped();
        }
    }
}

package io.r2lock;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.r2lock.AdvisoryLockException.Failure;
import io.r2lock.AdvisoryLockException.LockAttempt;
import java.time.Duration;
import java.util.List;
import org.junit.jupiter.api.Test;
import reactor.core.publisher.Mono;
import reactor.core.scheduler.Schedulers;

/** A full lock table has an error of its own, that says what fills it and what to do. */
class LockCapacityTest {

    private static final LockKey A = LockKey.of(1);

    @Test
    void outOfSharedMemory_isAMatterOfCapacity() {
        DefaultAdvisoryLocks client = FakeConnection.client(
                generation -> Mono.just(FakeConnection.open(
                        Schedulers.parallel(),
                        sql -> sql.contains("advisory_xact") ? Mono.error(SessionCalls.error("53200")) : Mono.empty(),
                        Mono::empty)),
                1);
        assertThatThrownBy(() -> client.withAdvisoryLock(A, Mono.just(1)).block())
                .isInstanceOf(LockCapacityException.class)
                .hasMessageContaining("max_locks_per_transaction × (max_connections + max_prepared_transactions)")
                .extracting(error -> ((LockCapacityException) error).sqlState())
                .isEqualTo("53200");
        client.close().block();
    }

    @Test
    void theSettings_areShownWhereTheyAreKnown() {
        LockAttempt attempt = new LockAttempt(List.of(A), LockMode.EXCLUSIVE, Duration.ZERO);
        LockCapacityException error = new LockCapacityException(
                attempt,
                new LockCapacityException.Settings(64, 100, 5),
                new Failure(SessionCalls.error("53200"), "53200"));
        assertThat(error).hasMessageContaining("places, here 64 × (100 + 5) = 6720, for the locks of all sessions");
    }
}

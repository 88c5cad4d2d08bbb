package io.r2lock;

import static io.r2lock.FakeClient.KEY;
import static org.assertj.core.api.Assertions.assertThat;

import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import reactor.core.publisher.Mono;
import reactor.core.publisher.Sinks;
import reactor.core.scheduler.Schedulers;
import reactor.test.util.RaceTestUtils;

/** Waits in the server's queue, which may say that they were cancelled though they were granted. */
class SessionWaitRaceTest {

    private static final int ROUNDS = 10_000;

    @RegisterExtension
    final NoResidue residue = NoResidue.on();

    /** The wait that the server has not answered. */
    private final AtomicReference<Sinks.@Nullable One<Boolean>> wait = new AtomicReference<>();

    /** What the waiting sessions hold on the server, together. */
    private final AtomicInteger held = new AtomicInteger();

    private final AtomicInteger heldThough = new AtomicInteger();

    private final FakeClient client = new FakeClient(generation ->
            Mono.fromSupplier(() -> FakeConnection.open(Schedulers.parallel(), this::answer, this::cancelRequest)));

    @AfterEach
    void close() {
        client.close();
    }

    private Mono<Boolean> answer(String sql) {
        if (sql.contains("pg_advisory_unlock_all")) {
            held.set(0);
            return Mono.empty();
        }
        if (sql.contains("pg_advisory_unlock")) {
            return Mono.just(held.getAndDecrement() == 1);
        }
        assertThat(sql).contains("pg_advisory_lock(");
        assertThat(held).as("what the last wait left").hasValue(0);
        Sinks.One<Boolean> answer = Sinks.one();
        wait.set(answer);
        return answer.asMono();
    }

    private Mono<Void> cancelRequest() {
        return Mono.fromRunnable(this::refuse);
    }

    private void grant() {
        Sinks.One<Boolean> answer = wait.getAndSet(null);
        if (answer != null) {
            held.incrementAndGet();
            answer.tryEmitEmpty().orThrow();
        }
    }

    /** Every second time it is granted all the same. */
    private void refuse() {
        Sinks.One<Boolean> answer = wait.getAndSet(null);
        if (answer != null) {
            if (ThreadLocalRandom.current().nextBoolean()) {
                held.incrementAndGet();
                heldThough.incrementAndGet();
            }
            answer.tryEmitError(SessionCalls.error("57014")).orThrow();
        }
    }

    private static void race(int round, Runnable one, Runnable other) {
        if (round % 2 == 0) {
            RaceTestUtils.race(one, other);
        } else {
            RaceTestUtils.race(other, one);
        }
    }

    private FakeCaller waiting() {
        FakeCaller caller = client.acquire();
        FakeClient.until("a wait", () -> wait.get() != null);
        return caller;
    }

    private void assertRest() {
        client.assertRest();
        assertThat(held).hasValue(0);
        assertThat(wait).hasValue(null);
    }

    @Test
    void grant_againstCancel() {
        client.open().busy(KEY);
        for (int i = 0; i < ROUNDS; i++) {
            FakeCaller caller = waiting();
            race(i, this::grant, caller::cancel);
            caller.assertToldAtMostOnce();
            assertRest();
        }
        assertThat(heldThough).as("waits that held the lock all the same").hasPositiveValue();
    }

    @Test
    void refusal_againstCancel() {
        client.open().busy(KEY);
        for (int i = 0; i < ROUNDS; i++) {
            FakeCaller caller = waiting();
            race(i, this::refuse, caller::cancel);
            if (caller.isTold()) {
                caller.assertToldOnce();
                assertThat(caller.error()).isInstanceOf(LockServerException.class);
            }
            assertRest();
        }
        assertThat(heldThough).as("waits that held the lock all the same").hasPositiveValue();
    }

    @Test
    void handOverOfWhatWasWaitedFor_againstCancelOfTheHeir() {
        client.open().busy(KEY);
        for (int i = 0; i < ROUNDS; i++) {
            FakeCaller holder = waiting();
            FakeCaller heir = client.acquire();
            FakeCaller next = client.acquire();
            grant();
            holder.assertToldOnce();
            race(i, holder::release, heir::cancel);
            heir.assertToldAtMostOnce();
            next.assertToldOnce();
            assertThat(held).as("all that had one lock").hasValue(1);
            next.release();
            assertRest();
        }
    }

    /** The grant is the last of two, so that all that was granted before has to be given back too. */
    @Test
    void grantOfTheSecondKey_againstCancel() {
        LockKey first = LockKey.of(0);
        FakeSession server = client.open().busy(KEY);
        for (int i = 0; i < ROUNDS; i++) {
            FakeCaller caller = client.acquire(client.locks.exclusive(first, KEY));
            FakeClient.until("a wait", () -> wait.get() != null);
            assertThat(server.held()).hasSize(1);
            race(i, this::grant, caller::cancel);
            caller.assertToldAtMostOnce();
            assertRest();
        }
    }
}

package io.r2lock;

import static org.assertj.core.api.Assertions.assertThat;

import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Objects;
import java.util.Random;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.Test;
import reactor.core.Disposable;
import reactor.core.publisher.Mono;

/** What waits in this process goes away with whoever waited. */
class GateMemoryTest {

    private static final int MANY = 100_000;
    private static final LockKey KEY = LockKey.of(1);

    @Test
    void manyWaitersOfOneGate_leaveNothing_inWhateverOrderTheyCancel() {
        KeyGates gates = new KeyGates();
        Waiter holder = Waiter.forServer(KEY, LockMode.EXCLUSIVE, turn -> {});
        assertThat(gates.enter(holder)).isTrue();
        AtomicInteger turns = new AtomicInteger();
        List<Waiter> waiters = new ArrayList<>(MANY);
        for (int i = 0; i < MANY; i++) {
            LockMode mode = i % 3 == 0 ? LockMode.SHARED : LockMode.EXCLUSIVE;
            Waiter waiter = Waiter.forServer(KEY, mode, turn -> turns.incrementAndGet());
            assertThat(gates.enter(waiter)).isFalse();
            waiters.add(waiter);
        }

        Collections.shuffle(waiters, new Random(7));
        waiters.forEach(gates::leave);
        for (Waiter waiter : waiters) {
            // a chain that stays linked would keep all the others alive
            assertThat(waiter.next == null && waiter.previous == null).isTrue();
        }
        assertThat(turns).hasValue(0);
        assertThat(gates.size()).isEqualTo(1);
        gates.leave(holder);
        assertThat(gates.size()).isZero();
    }

    @Test
    void manyGuardsOfOneKey_leaveNothing_inWhateverOrderTheyCancel() {
        DefaultAdvisoryLocks client =
                FakeConnection.client(generation -> Mono.fromSupplier(FakeConnection::granting), 2);
        HeldLock held = Objects.requireNonNull(client.exclusive(KEY).acquire().block(Duration.ofSeconds(10)));
        Mono<Integer> guarded = client.withAdvisoryLock(KEY, Mono.just(1));
        List<Disposable> calls = new ArrayList<>(MANY);
        for (int i = 0; i < MANY; i++) {
            calls.add(guarded.subscribe());
        }
        assertThat(client.waiting()).isEqualTo(MANY);
        assertThat(client.connections().demand())
                .as("connections for all of them")
                .isEqualTo(1);

        Collections.shuffle(calls, new Random(7));
        calls.forEach(Disposable::dispose);
        assertThat(client.waiting()).isZero();
        assertThat(client.live()).isEqualTo(1);
        held.release().block(Duration.ofSeconds(10));
        assertThat(client.live()).isZero();
        assertThat(client.gates().size()).isZero();
        client.close().block(Duration.ofSeconds(10));
    }

    @Test
    void aMillionKeys_leaveAnEmptyRegistry() {
        KeyGates gates = new KeyGates();
        for (int i = 0; i < 1_000_000; i++) {
            LockMode mode = i % 2 == 0 ? LockMode.SHARED : LockMode.EXCLUSIVE;
            Waiter waiter = Waiter.forServer(LockKey.of(i), mode, turn -> {});
            assertThat(gates.enter(waiter)).isTrue();
            gates.leave(waiter);
        }
        assertThat(gates.size()).isZero();
    }

    @Test
    void manyGuardsOfOneKey_eachHasItsTurn_whenTheHolderLeaves() {
        DefaultAdvisoryLocks client =
                FakeConnection.client(generation -> Mono.fromSupplier(FakeConnection::grantingLater), 2);
        HeldLock held = Objects.requireNonNull(client.exclusive(KEY).acquire().block(Duration.ofSeconds(10)));
        AtomicInteger served = new AtomicInteger();
        Mono<Integer> guarded = client.withAdvisoryLock(KEY, Mono.fromSupplier(served::incrementAndGet));
        for (int i = 0; i < MANY; i++) {
            guarded.subscribe();
        }
        held.release().block(Duration.ofSeconds(10));
        Await.until("all served", () -> served.get() == MANY && client.live() == 0);
        assertThat(client.gates().size()).isZero();
        client.close().block(Duration.ofSeconds(10));
    }
}

package io.r2lock;

import java.time.Duration;
import java.util.Queue;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.atomic.AtomicInteger;
import org.jspecify.annotations.Nullable;

/** A caller at a permit gate that counts what it is told. */
final class PermitGuest implements PermitCaller.Told {

    final PermitCaller caller;
    private final PermitGates gates;
    private final FakeSlots server;
    private final Queue<PermitGuest> order;

    final AtomicInteger served = new AtomicInteger();
    final AtomicInteger left = new AtomicInteger();
    final AtomicInteger refused = new AtomicInteger();
    final AtomicInteger ended = new AtomicInteger();
    final Queue<Integer> differing = new ConcurrentLinkedQueue<>();
    final Queue<Throwable> failures = new ConcurrentLinkedQueue<>();

    /** What the server held, or was asked for, when this one was told that it had left. */
    volatile int heldWhenLeft = -1;

    PermitGuest(PermitGates gates, FakeSlots server, Queue<PermitGuest> order, LockSpec spec, boolean nested) {
        this.gates = gates;
        this.server = server;
        this.order = order;
        this.caller = new PermitCaller(spec, nested, this) {
            /** At once, as on a thread that must not block: a test need not wait for it. */
            @Override
            void tell(Runnable what, @Nullable SessionLock granted) {
                super.tell(what, null);
            }
        };
    }

    static LockSpec waiting(LockKey key, int permits) {
        return LockSpec.permit(key, permits, Duration.ofMinutes(1));
    }

    PermitGuest enter() {
        gates.enter(caller);
        return this;
    }

    void stop() {
        gates.stop(caller);
    }

    void leave() {
        gates.leave(caller, lost -> ended.incrementAndGet());
    }

    boolean isServed() {
        return served.get() > 0;
    }

    /** How many ends, or grants, it was told: one, whatever happens. */
    int told() {
        return served.get() + left.get() + refused.get() + failures.size() + differing.size();
    }

    @Override
    public void atServer() {
        // only a request cares
    }

    @Override
    public void served(SessionLock lock) {
        order.add(this);
        served.incrementAndGet();
    }

    @Override
    public void busy() {
        refused.incrementAndGet();
    }

    @Override
    public void differs(int permits) {
        differing.add(permits);
    }

    @Override
    public void failed(@Nullable Throwable error) {
        failures.add(error == null ? new IllegalStateException("gone") : error);
    }

    @Override
    public void left() {
        heldWhenLeft = server.held() + server.pending();
        left.incrementAndGet();
    }
}

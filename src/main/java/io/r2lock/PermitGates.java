package io.r2lock;

import java.util.Objects;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;
import org.jspecify.annotations.Nullable;
import reactor.core.scheduler.Scheduler;
import reactor.core.scheduler.Schedulers;

/**
 * The permits of all keys for which somebody of this process has one, or waits.
 *
 * <p>As in {@link KeyGates}, a gate is changed only inside one atomic change of its key's entry and is gone as soon as it is idle;
 * what the change has brought is done after it.
 */
final class PermitGates implements PermitGate.Outside {

    /** Where the slots are locked. */
    interface Server {

        /** Tries to take a key, exclusively; {@code false} where no connection is open, and then nothing is told. */
        boolean tryLock(LockKey key, SessionBackend.Tried told);

        /** Opens the key's connection; told once, with the error if it failed. */
        void open(LockKey key, Consumer<@Nullable Throwable> told);
    }

    private final ConcurrentHashMap<LockKey, PermitGate> gates = new ConcurrentHashMap<>();
    private final Server server;
    private final int handOffLimit;
    private final Scheduler clock;
    private final Collisions collisions;

    PermitGates(Server server, int handOffLimit, Scheduler clock) {
        this(server, handOffLimit, clock, new Collisions((known, asked) -> {}));
    }

    PermitGates(Server server, int handOffLimit, Scheduler clock, Collisions collisions) {
        this.collisions = collisions;
        this.server = server;
        this.handOffLimit = handOffLimit;
        this.clock = clock;
    }

    void enter(PermitCaller caller) {
        LockKey[] known = new LockKey[1];
        change(caller, gate -> {
            known[0] = gate.key;
            gate.enter(caller);
        });
        collisions.met(known[0], caller.key);
    }

    /** Gives up a place in the queue, after which {@link PermitCaller.Told#left} is told; nothing for who is inside or gone. */
    void stop(PermitCaller caller) {
        change(caller, gate -> gate.stop(caller));
    }

    /** Whoever is inside, needs it no more; called once. {@code done} is told why the slot was lost, or null. */
    void leave(PermitCaller caller, Consumer<@Nullable String> done) {
        SessionLock[] lock = new SessionLock[1];
        PermitGate.Steps steps = changed(caller, gate -> lock[0] = gate.leave(caller));
        SessionLock own = lock[0];
        if (own == null) {
            doAll(steps, () -> done.accept(null));
            return;
        }
        doAll(
                steps,
                () -> own.release(why -> {
                    boolean[] rests = new boolean[1];
                    PermitGate.Steps after = changed(caller, gate -> rests[0] = gate.left(caller));
                    if (rests[0]) {
                        long now = clock.now(TimeUnit.NANOSECONDS);
                        long nanos = Rest.nanos(own.since(), now, now);
                        clock.schedule(
                                () -> change(caller, gate -> gate.rested(caller.slot)), nanos, TimeUnit.NANOSECONDS);
                    }
                    doAll(after, () -> done.accept(why));
                }));
    }

    /** How many keys somebody has a permit of, or waits for. */
    int size() {
        return gates.size();
    }

    @Override
    public void tryLock(PermitGate gate, int slot) {
        boolean asked = server.tryLock(
                gate.key.slot(slot),
                (answer, lock, error) -> change(gate, () -> {
                    switch (answer) {
                        case GRANTED -> gate.granted(slot, Objects.requireNonNull(lock));
                        case BUSY, CLAIMED -> gate.busy(slot);
                        case FAILED, RELEASED, NOT_HELD -> gate.failed(slot, isGone(error), error);
                    }
                }));
        if (!asked) {
            change(gate, () -> gate.closed(slot));
        }
    }

    private static boolean isGone(@Nullable Throwable error) {
        return error == null || SqlStates.isConnectionGone(SqlStates.of(error));
    }

    @Override
    public void open(PermitGate gate, int slot) {
        server.open(gate.key.slot(slot), error -> change(gate, () -> gate.opened(error)));
    }

    @Override
    public void giveBack(PermitGate gate, int slot, SessionLock lock) {
        lock.release(lost -> change(gate, () -> gate.givenBack(slot)));
    }

    @Override
    public void pause(PermitGate gate, int number, long millis) {
        clock.schedule(() -> change(gate, () -> gate.pauseIsOver(number)), millis, TimeUnit.MILLISECONDS);
    }

    private void change(PermitCaller caller, Consumer<PermitGate> transition) {
        doAll(changed(caller, transition), () -> {});
    }

    private PermitGate.Steps changed(PermitCaller caller, Consumer<PermitGate> transition) {
        PermitGate.Steps[] steps = new PermitGate.Steps[1];
        gates.compute(caller.key, (key, present) -> {
            PermitGate gate = present == null ? new PermitGate(key, caller.permits, handOffLimit, this) : present;
            transition.accept(gate);
            steps[0] = gate.steps();
            return gate.isIdle() ? null : gate;
        });
        return steps[0];
    }

    /** Nothing, if the gate is not there any more. */
    private void change(PermitGate gate, Runnable transition) {
        PermitGate.Steps[] steps = new PermitGate.Steps[1];
        gates.computeIfPresent(gate.key, (key, present) -> {
            if (present != gate) {
                return present;
            }
            transition.run();
            steps[0] = gate.steps();
            return gate.isIdle() ? null : gate;
        });
        if (steps[0] != null) {
            doAll(steps[0], () -> {});
        }
    }

    /**
     * The caller whose end has brought the others their turns hears of it before them; but not where it may block, and those turns with
     * it.
     */
    private static void doAll(PermitGate.Steps steps, Runnable between) {
        steps.asks().forEach(Runnable::run);
        if (Schedulers.isInNonBlockingThread()) {
            KeyGates.turnsAfter(() -> {
                between.run();
                steps.tells().forEach(Runnable::run);
            });
        } else {
            steps.tells().forEach(Runnable::run);
            between.run();
        }
    }
}

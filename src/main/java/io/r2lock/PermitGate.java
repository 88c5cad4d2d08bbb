package io.r2lock;

import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.Queue;
import org.jspecify.annotations.Nullable;

/**
 * The permits of one key in this process: who waits for one, first in, first out, and which slots are used here.
 *
 * <p>The server has no queue for "any of these locks". So a <em>round</em> tries, in random order, the slots that this process does
 * not use itself, for all that wait together; after a round in vain there is a pause. A slot that is granted goes to whoever
 * waits longest, whoever it was tried for; a slot that is given up here goes to that one without the server, so often in a row as
 * the limit allows.
 *
 * <p>Invariants: no more tries are on their way than there are callers who wait, or have stopped and not been told: so this
 * process never takes a slot that nobody asked for, and a slot that crosses a stop is given back before that one is told. Who does
 * not wait is refused at the end of a round that began after it came, so each slot was in use at some moment since.
 *
 * <p>Not safe by itself: {@link PermitGates} makes every call inside one atomic change of the key's entry, and then does what
 * {@link #steps} says.
 */
final class PermitGate {

    /** What a gate asks for. */
    interface Outside {
        void tryLock(PermitGate gate, int slot);

        void open(PermitGate gate, int slot);

        /** A lock that nobody wants any more. */
        void giveBack(PermitGate gate, int slot, SessionLock lock);

        void pause(PermitGate gate, int number, long millis);
    }

    /**
     * What is to be done after a change, in this order.
     *
     * @param asks of the server and the clock
     * @param tells to callers, whose code may run long
     */
    record Steps(List<Runnable> asks, List<Runnable> tells) {
        Steps() {
            this(new ArrayList<>(2), new ArrayList<>(2));
        }
    }

    final LockKey key;
    private final int handOffLimit;
    private final Outside outside;
    private final PermitQueue waiting = new PermitQueue();
    private final Queue<PermitCaller> stopping = new ArrayDeque<>();
    private final PermitSlots slots;

    /** How many are tried, or being given back because nobody wanted them any more. */
    private int flying;

    private int round;
    private boolean inRound;

    /** Another round follows without a pause. */
    private boolean again;

    /** No slot is tried before a connection is open. */
    private boolean opening;

    private final PermitPause pause = new PermitPause();
    private Steps steps = new Steps();

    PermitGate(LockKey key, int permits, int handOffLimit, Outside outside) {
        this.key = key;
        this.slots = new PermitSlots(permits);
        this.handOffLimit = handOffLimit;
        this.outside = outside;
    }

    boolean isIdle() {
        return slots.noneIsTaken() && waiting.isEmpty() && stopping.isEmpty();
    }

    /** What the changes since the last call have brought. */
    Steps steps() {
        Steps all = steps;
        steps = new Steps();
        return all;
    }

    void enter(PermitCaller caller) {
        if (caller.place != PermitCaller.Place.NEW) {
            return;
        }
        if (caller.permits != slots.count()) {
            end(caller, () -> caller.told.differs(slots.count()));
            return;
        }
        boolean first = waiting.isEmpty();
        caller.round = round + 1;
        waiting.add(caller);
        if (first) {
            // what is left of former callers' waits is none of its business
            slots.wakeAll();
            pause.forget();
        }
        again |= first || !caller.waits;
        settle();
    }

    void stop(PermitCaller caller) {
        if (caller.place == PermitCaller.Place.NEW) {
            end(caller, caller.told::left);
        } else if (caller.place == PermitCaller.Place.WAITING) {
            waiting.remove(caller);
            caller.place = PermitCaller.Place.STOPPING;
            stopping.add(caller);
            settle();
        }
    }

    void granted(int slot, SessionLock lock) {
        PermitCaller next = waiting.oldest();
        if (next == null) {
            steps.asks.add(() -> outside.giveBack(this, slot, lock));
            return;
        }
        flying--;
        serve(next, slot, lock, 0);
        settle();
    }

    /** What nobody wanted any more is given back. */
    void givenBack(int slot) {
        flying--;
        slots.release(slot);
        tryAtOnce(slot);
    }

    void busy(int slot) {
        flying--;
        slots.release(slot);
        settle();
    }

    /** {@code gone}: the connection was, before it had granted anything. */
    void failed(int slot, boolean gone, @Nullable Throwable error) {
        flying--;
        slots.release(slot);
        PermitCaller unreplaced = gone ? waiting.firstUnreplaced() : null;
        PermitCaller oldest = waiting.oldest();
        if (unreplaced != null) {
            unreplaced.replaced = true;
            slots.tryNext(slot);
        } else if (oldest != null) {
            fail(oldest, error);
        }
        settle();
    }

    /** The slot's connection is not open: nothing was sent. */
    void closed(int slot) {
        flying--;
        slots.release(slot);
        slots.tryNext(slot);
        if (!opening && !waiting.isEmpty()) {
            opening = true;
            steps.asks.add(() -> outside.open(this, slot));
        }
        settle();
    }

    /** The connection is open, or the error says why not. */
    void opened(@Nullable Throwable error) {
        opening = false;
        // the others have a try on its way, on another connection
        for (int left = error == null ? 0 : waiting.size() - flying; left > 0; left--) {
            fail(Objects.requireNonNull(waiting.oldest()), error);
        }
        settle();
    }

    /** Whoever is inside needs its slot no more; the answer is what must be given back before {@link #left} is called. */
    @Nullable
    SessionLock leave(PermitCaller caller) {
        SessionLock lock = Objects.requireNonNull(caller.lock);
        // else each of them has a try on its way, which would be one too many then
        boolean wanted = flying < waiting.size();
        PermitCaller next = waiting.oldest();
        if (next != null && wanted && lock.isGood() && caller.handOffs < handOffLimit) {
            caller.place = PermitCaller.Place.GONE;
            serve(next, caller.slot, lock, caller.handOffs + 1);
            settle();
            return null;
        }
        caller.place = PermitCaller.Place.LEAVING;
        caller.rests = wanted && caller.handOffs >= handOffLimit;
        return lock;
    }

    /** The server has the slot back; the answer is whether that rests now, until {@link #rested}. */
    boolean left(PermitCaller caller) {
        caller.place = PermitCaller.Place.GONE;
        if (caller.rests && !waiting.isEmpty()) {
            slots.rest(caller.slot);
            settle();
            return true;
        }
        slots.release(caller.slot);
        tryAtOnce(caller.slot);
        return false;
    }

    void rested(int slot) {
        if (slots.wake(slot)) {
            tryAtOnce(slot);
        }
    }

    void pauseIsOver(int number) {
        if (pause.end(number)) {
            again = true;
            settle();
        }
    }

    /** It is free, or was not long ago. */
    private void tryAtOnce(int slot) {
        inRound = true;
        slots.tryNext(slot);
        settle();
    }

    private void serve(PermitCaller caller, int slot, SessionLock lock, int handOffs) {
        waiting.remove(caller);
        caller.place = PermitCaller.Place.INSIDE;
        caller.slot = slot;
        caller.lock = lock;
        caller.handOffs = handOffs;
        steps.tells.add(() -> caller.tell(() -> caller.told.served(lock), lock));
    }

    private void fail(PermitCaller caller, @Nullable Throwable error) {
        waiting.remove(caller);
        end(caller, () -> caller.told.failed(error));
    }

    private void end(PermitCaller caller, Runnable tell) {
        caller.place = PermitCaller.Place.GONE;
        steps.tells.add(() -> caller.tell(tell, null));
    }

    /** After every change: whoever has stopped is told if no try is left for it, and the others' round goes on. */
    private void settle() {
        if (waiting.isEmpty()) {
            slots.endRound();
            again = false;
        }
        while (stopping.size() > Math.max(0, flying - waiting.size())) {
            PermitCaller stopped = stopping.remove();
            end(stopped, stopped.told::left);
        }
        while (!opening) {
            tryMore();
            if (flying > 0 || !slots.isRoundOver()) {
                return;
            }
            refuseImpatient();
            if (!again || waiting.isEmpty()) {
                pause();
                return;
            }
            beginRound();
        }
    }

    private void tryMore() {
        while (flying < waiting.size() && !slots.isRoundOver()) {
            int slot = slots.next();
            flying++;
            steps.asks.add(() -> outside.tryLock(this, slot));
        }
        PermitCaller first = waiting.oldest();
        if (flying > 0 && first != null && !first.asks) {
            first.asks = true;
            steps.asks.add(first.told::atServer);
        }
    }

    private void beginRound() {
        again = false;
        inRound = true;
        round++;
        slots.beginRound();
    }

    /** Nothing is tried any more. */
    private void refuseImpatient() {
        if (inRound) {
            inRound = false;
            for (PermitCaller caller : waiting.impatient(round)) {
                waiting.remove(caller);
                end(caller, caller.told::busy);
            }
        }
    }

    private void pause() {
        if (!pause.lasts() && !waiting.isEmpty() && !slots.allAreTaken()) {
            int number = pause.begin();
            long millis = pause.millis();
            steps.asks.add(() -> outside.pause(this, number, millis));
        }
    }
}

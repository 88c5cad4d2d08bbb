package io.r2lock;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.Test;
import reactor.test.util.RaceTestUtils;

/** A lock that passes from hand to hand at a gate: it is given back once, by the last one who has it, and used by nobody after. */
class HandOverRaceTest {

    private static final int ROUNDS = 10_000;
    private static final int LIMIT = 2;
    private static final LockKey KEY = LockKey.of(1);

    private final KeyGates gates = new KeyGates(LIMIT);

    /** Locks that the server has granted and not got back. */
    private final AtomicInteger granted = new AtomicInteger();

    private final AtomicInteger misused = new AtomicInteger();

    /** A lock of the server. */
    private final class Lock extends Baton {

        private final AtomicInteger uses = new AtomicInteger();
        private final AtomicInteger released = new AtomicInteger();
        private volatile boolean lost;

        Lock() {
            granted.incrementAndGet();
        }

        @Override
        public boolean isGood() {
            return !lost;
        }

        void use() {
            misused.addAndGet(uses.incrementAndGet() > LIMIT + 1 ? 1 : 0);
            misused.addAndGet(released.get());
        }

        void release() {
            misused.addAndGet(released.getAndIncrement());
            granted.decrementAndGet();
        }
    }

    private enum State {
        WAITING,
        SETTLING,
        HELD,
        ENDED
    }

    /** As a session request: takes over what it finds at its turn, or is granted its own, and gives its place up once. */
    private final class Caller {

        private final Waiter waiter;
        private final AtomicReference<State> state = new AtomicReference<>(State.WAITING);
        private final AtomicInteger turns = new AtomicInteger();
        private volatile @Nullable Lock lock;

        Caller(LockMode mode) {
            waiter = Waiter.forSession(KEY, mode, true, Waiter.Heir.SESSION, turn -> haveTurn());
        }

        Caller enter() {
            if (gates.enter(waiter)) {
                haveTurn();
            }
            return this;
        }

        private void haveTurn() {
            turns.incrementAndGet();
            if (!state.compareAndSet(State.WAITING, State.SETTLING)) {
                return;
            }
            Lock own = waiter.baton == null ? new Lock() : (Lock) waiter.baton;
            own.use();
            lock = own;
            gates.prove(waiter, own);
            if (!state.compareAndSet(State.SETTLING, State.HELD)) {
                part();
            }
        }

        /** A cancel, or the end of the hold. */
        void end() {
            State before = state.getAndSet(State.ENDED);
            if (before == State.WAITING || before == State.HELD) {
                part();
            }
        }

        private void part() {
            if (giveBack()) {
                gates.leave(waiter);
            }
        }

        /** Whether it has to leave: others may come in only after that. */
        boolean giveBack() {
            KeyGate.Release release = gates.part(waiter, lock);
            if (release != null) {
                ((Lock) release.lock()).release();
            }
            return release != null;
        }

        Lock lock() {
            return java.util.Objects.requireNonNull(lock);
        }
    }

    private Caller enter(LockMode mode) {
        return new Caller(mode).enter();
    }

    private static void race(int round, Runnable one, Runnable other) {
        if (round % 2 == 0) {
            RaceTestUtils.race(one, other);
        } else {
            RaceTestUtils.race(other, one);
        }
    }

    /** A turn that brings a lock comes on another thread where this one may block. */
    private static void awaitTurn(Caller caller) {
        FakeClient.until("its turn", () -> caller.state.get() == State.HELD);
        assertThat(caller.turns).hasValue(1);
    }

    private void assertEmpty() {
        FakeClient.until("an empty registry", () -> gates.size() == 0);
        assertThat(granted).hasValue(0);
        assertThat(misused).hasValue(0);
    }

    @Test
    void handOffRacesCancelOfTheHeir_theNextOneHasItsTurn() {
        for (int round = 0; round < ROUNDS; round++) {
            LockMode mode = round % 4 < 2 ? LockMode.EXCLUSIVE : LockMode.SHARED;
            Caller holder = enter(LockMode.EXCLUSIVE);
            Caller heir = enter(mode);
            Caller next = enter(LockMode.EXCLUSIVE);
            race(round, holder::end, heir::end);
            awaitTurn(next);
            next.end();
            assertEmpty();
        }
    }

    @Test
    void joinRacesTheRelease_ofTheLastWhoShared() {
        int joined = 0;
        for (int round = 0; round < ROUNDS; round++) {
            Caller last = enter(LockMode.SHARED);
            Caller late = new Caller(LockMode.SHARED);
            race(round, last::end, late::enter);
            awaitTurn(late);
            joined += late.lock() == last.lock() ? 1 : 0;
            late.end();
            assertEmpty();
        }
        assertThat(joined).as("both happened").isBetween(1, ROUNDS - 1);
    }

    @Test
    void joinOfOneInsideRacesTheRelease_ofTheLastWhoShared() {
        for (int round = 0; round < ROUNDS; round++) {
            Caller last = enter(LockMode.SHARED);
            Waiter inside = Waiter.forSession(KEY, LockMode.SHARED, false, Waiter.Heir.NOBODY, turn -> {});
            assertThat(gates.enter(inside)).isTrue();
            AtomicReference<@Nullable Baton> joined = new AtomicReference<>();
            race(round, last::end, () -> joined.set(gates.join(inside)));
            KeyGate.Release release = gates.part(inside, null);
            assertThat(release != null).as("gives back what it shared").isEqualTo(joined.get() != null);
            if (release != null) {
                ((Lock) release.lock()).release();
                gates.leave(inside);
            }
            assertEmpty();
        }
    }

    @Test
    void joinsOfThoseInside_countToo() {
        Caller first = enter(LockMode.SHARED);
        List<Waiter> inside = new ArrayList<>();
        for (int i = 0; i < LIMIT + 2; i++) {
            Waiter waiter = Waiter.forSession(KEY, LockMode.SHARED, false, Waiter.Heir.NOBODY, turn -> {});
            assertThat(gates.enter(waiter)).isTrue();
            assertThat(gates.join(waiter) != null).as("join %d", i).isEqualTo(i < LIMIT);
            inside.add(waiter);
        }
        first.end();
        for (Waiter waiter : inside) {
            KeyGate.Release release = gates.part(waiter, null);
            if (release != null) {
                ((Lock) release.lock()).release();
                gates.leave(waiter);
            }
        }
        assertEmpty();
    }

    @Test
    void limitReached_theLastOneRacesNewcomers() {
        for (int round = 0; round < ROUNDS; round++) {
            LockMode mode = round % 4 < 2 ? LockMode.EXCLUSIVE : LockMode.SHARED;
            List<Caller> first = new ArrayList<>();
            for (int i = 0; i <= LIMIT; i++) {
                first.add(enter(mode));
            }
            for (int i = 0; i < LIMIT; i++) {
                first.get(i).end();
                awaitTurn(first.get(i + 1));
            }
            Caller last = first.get(LIMIT);
            assertThat(last.lock()).isSameAs(first.get(0).lock());
            Caller late = new Caller(mode);
            race(round, last::end, late::enter);
            awaitTurn(late);
            assertThat(late.lock()).isNotSameAs(last.lock());
            late.end();
            assertEmpty();
        }
    }

    @Test
    void closedGate_racesNewcomers_andACancelOfAllWhoQueued() {
        for (int round = 0; round < ROUNDS; round++) {
            LockMode mode = round % 4 < 2 ? LockMode.EXCLUSIVE : LockMode.SHARED;
            Caller holder = enter(mode);
            assertThat(holder.giveBack()).isTrue();
            LockMode first = round % 8 < 4 ? LockMode.EXCLUSIVE : LockMode.SHARED;
            List<Caller> queued = List.of(enter(first), enter(LockMode.SHARED), enter(LockMode.SHARED));
            assertThat(queued).as("nobody goes in meanwhile").allMatch(one -> one.turns.get() == 0);
            Caller late = new Caller(mode);
            RaceTestUtils.race(() -> gates.leave(holder.waiter), late::enter, () -> queued.forEach(Caller::end));
            awaitTurn(late);
            late.end();
            assertEmpty();
        }
    }

    @Test
    void aLostLock_isJoinedByNobody() {
        Caller first = enter(LockMode.SHARED);
        first.lock().lost = true;
        Caller late = enter(LockMode.SHARED);
        awaitTurn(late);
        assertThat(late.lock()).isNotSameAs(first.lock());
        late.end();
        first.end();
        assertEmpty();
    }

    @Test
    void lossRacesTheHandOff() {
        for (int round = 0; round < ROUNDS; round++) {
            Caller holder = enter(LockMode.EXCLUSIVE);
            Caller heir = enter(LockMode.EXCLUSIVE);
            Lock lock = holder.lock();
            race(round, holder::end, () -> lock.lost = true);
            awaitTurn(heir);
            heir.end();
            assertEmpty();
        }
    }

    @Test
    void lostLock_isNotHandedOver() {
        Caller holder = enter(LockMode.EXCLUSIVE);
        Caller heir = enter(LockMode.EXCLUSIVE);
        holder.lock().lost = true;
        holder.end();
        assertThat(heir.lock()).isNotSameAs(holder.lock());
        heir.end();
        assertEmpty();
    }

    @Test
    void manyCallersOfBothModes_noLockIsKeptOrUsedTooOften() {
        for (int round = 0; round < ROUNDS; round++) {
            List<Caller> callers = new ArrayList<>();
            for (int i = 0; i < 8; i++) {
                boolean exclusive = ThreadLocalRandom.current().nextInt(3) == 0;
                callers.add(new Caller(exclusive ? LockMode.EXCLUSIVE : LockMode.SHARED));
            }
            race(round, () -> live(callers, 0), () -> live(callers, 1));
            assertEmpty();
        }
    }

    /** Each enters, and ends the one before it, whether that has had its turn or not. */
    private static void live(List<Caller> callers, int offset) {
        for (int i = offset; i < callers.size(); i += 2) {
            callers.get(i).enter();
            if (i >= 2) {
                callers.get(i - 2).end();
            }
        }
        callers.get(callers.size() - 2 + offset).end();
    }
}

package io.r2lock;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.Test;
import reactor.test.util.RaceTestUtils;

/** What may meet at a gate, each pair raced in both orders, thousands of times. */
class GateRaceTest {

    private static final int ROUNDS = 10_000;
    private static final int SHARED = 1;
    private static final int EXCLUSIVE = 1 << 16;
    private static final LockKey KEY = LockKey.of(1);

    private final KeyGates gates = new KeyGates(Integer.MAX_VALUE);

    /** Who is inside by the tests' own count: shared ones singly, exclusive ones in the upper half. */
    private final AtomicInteger inside = new AtomicInteger();

    private final AtomicInteger overlaps = new AtomicInteger();

    /** A caller that enters the gate, counts itself in when it has its turn, and out before it leaves. */
    private final class Caller {

        private final Waiter waiter;
        private final int weight;
        private final AtomicInteger turns = new AtomicInteger();

        /** 0 outside, then its weight, then -1: left. */
        private final AtomicInteger counted = new AtomicInteger();

        Caller(LockMode mode) {
            this.weight = mode == LockMode.EXCLUSIVE ? EXCLUSIVE : SHARED;
            this.waiter = Waiter.forServer(KEY, mode, turn -> haveTurn());
        }

        Caller enter() {
            if (gates.enter(waiter)) {
                haveTurn();
            }
            return this;
        }

        private void haveTurn() {
            turns.incrementAndGet();
            // a waiter that has left is told its turn all the same when both happen at once: it is not inside then
            if (counted.compareAndSet(0, weight)) {
                int now = inside.addAndGet(weight);
                if (now != EXCLUSIVE && now >= EXCLUSIVE) {
                    overlaps.incrementAndGet();
                }
            }
        }

        void leave() {
            if (counted.getAndSet(-1) == weight) {
                inside.addAndGet(-weight);
            }
            gates.leave(waiter);
        }
    }

    private static void race(int round, Runnable one, Runnable other) {
        if (round % 2 == 0) {
            RaceTestUtils.race(one, other);
        } else {
            RaceTestUtils.race(other, one);
        }
    }

    private void assertEmpty() {
        assertThat(gates.size()).isZero();
        assertThat(inside).hasValue(0);
        assertThat(overlaps).hasValue(0);
    }

    @Test
    void enterRacesCancel_theWaiterIsNeverLeftInside() {
        for (int round = 0; round < ROUNDS; round++) {
            Caller caller = new Caller(LockMode.EXCLUSIVE);
            race(round, caller::enter, caller::leave);
            assertEmpty();
        }
    }

    @Test
    void grantRacesCancel_theTurnIsPassedOn() {
        for (int round = 0; round < ROUNDS; round++) {
            Caller holder = new Caller(LockMode.EXCLUSIVE).enter();
            Caller cancelled = new Caller(LockMode.EXCLUSIVE).enter();
            Caller next = new Caller(LockMode.EXCLUSIVE).enter();
            race(round, holder::leave, cancelled::leave);
            assertThat(next.turns).as("the turn passes a waiter that left").hasValue(1);
            assertThat(cancelled.turns.get()).isLessThanOrEqualTo(1);
            next.leave();
            assertEmpty();
        }
    }

    @Test
    void enterRacesLeaveOfThePredecessor_exactlyOneTurn() {
        for (int round = 0; round < ROUNDS; round++) {
            Caller holder = new Caller(LockMode.EXCLUSIVE).enter();
            Caller next = new Caller(LockMode.EXCLUSIVE);
            race(round, holder::leave, next::enter);
            assertThat(next.turns).hasValue(1);
            next.leave();
            assertEmpty();
        }
    }

    @Test
    void twoEntersRace_oneIsInside_andTheOtherOneFollows() {
        for (int round = 0; round < ROUNDS; round++) {
            Caller one = new Caller(LockMode.EXCLUSIVE);
            Caller other = new Caller(LockMode.EXCLUSIVE);
            race(round, one::enter, other::enter);
            assertThat(one.turns.get() + other.turns.get()).isEqualTo(1);
            (one.turns.get() == 1 ? one : other).leave();
            assertThat(one.turns.get() + other.turns.get()).isEqualTo(2);
            one.leave();
            other.leave();
            assertEmpty();
        }
    }

    @Test
    void sharedProofRacesCancelOfAFollower_theOthersComeIn() {
        for (int round = 0; round < ROUNDS; round++) {
            Caller first = new Caller(LockMode.SHARED).enter();
            Caller cancelled = new Caller(LockMode.SHARED).enter();
            Caller last = new Caller(LockMode.SHARED).enter();
            assertThat(last.turns).as("waits for the proof").hasValue(0);
            race(round, () -> gates.prove(first.waiter), cancelled::leave);
            assertThat(last.turns).hasValue(1);
            List.of(first, last).forEach(Caller::leave);
            assertEmpty();
        }
    }

    @Test
    void sharedProofRacesLeaveOfTheProver_somebodyIsInside() {
        for (int round = 0; round < ROUNDS; round++) {
            Caller first = new Caller(LockMode.SHARED).enter();
            Caller second = new Caller(LockMode.SHARED).enter();
            Caller third = new Caller(LockMode.SHARED).enter();
            race(round, () -> gates.prove(first.waiter), first::leave);
            assertThat(second.turns).hasValue(1);
            gates.prove(second.waiter);
            assertThat(third.turns).hasValue(1);
            List.of(second, third).forEach(Caller::leave);
            assertEmpty();
        }
    }

    @Test
    void refusalRacesCancelOfTheRefused_nobodyIsLeftQueued() {
        for (int round = 0; round < ROUNDS; round++) {
            Caller first = new Caller(LockMode.SHARED).enter();
            gates.prove(first.waiter);
            Caller refused = new Caller(LockMode.SHARED).enter();
            Caller next = new Caller(LockMode.SHARED).enter();
            assertThat(refused.waiter.follower).isTrue();
            race(round, () -> gates.refuse(refused.waiter), refused::leave);
            List.of(first, next).forEach(Caller::leave);
            refused.leave();
            assertEmpty();
        }
    }

    @Test
    void refusalsRaceTheirLastHolder_oneOfThemWaitsOnTheServerForAll() {
        for (int round = 0; round < ROUNDS; round++) {
            Caller first = new Caller(LockMode.SHARED).enter();
            gates.prove(first.waiter);
            Caller one = new Caller(LockMode.SHARED).enter();
            Caller other = new Caller(LockMode.SHARED).enter();
            race(
                    round,
                    () -> {
                        gates.refuse(one.waiter);
                        gates.refuse(other.waiter);
                    },
                    first::leave);
            // two first turns as followers, and exactly one second turn, alone
            assertThat(one.turns.get() + other.turns.get()).isEqualTo(3);
            List.of(one, other).forEach(Caller::leave);
            assertEmpty();
        }
    }

    /** Gives its place to the next one, or leaves. */
    private void handOver(Caller from) {
        if (from.counted.getAndSet(-1) == from.weight) {
            inside.addAndGet(-from.weight);
        }
        Waiter heir = gates.handOver(from.waiter, () -> true);
        if (heir == null) {
            gates.leave(from.waiter);
        }
        KeyGates.tell(heir);
    }

    @Test
    void handOverRacesCancelOfTheHeir_theTurnIsPassedOn() {
        for (int round = 0; round < ROUNDS; round++) {
            Caller holder = new Caller(LockMode.EXCLUSIVE).enter();
            Caller cancelled = new Caller(LockMode.EXCLUSIVE).enter();
            Caller next = new Caller(LockMode.EXCLUSIVE).enter();
            race(round, () -> handOver(holder), cancelled::leave);
            assertThat(next.turns).as("the turn passes a waiter that left").hasValue(1);
            assertThat(cancelled.turns.get()).isLessThanOrEqualTo(1);
            next.leave();
            assertEmpty();
        }
    }

    @Test
    void handOver_goesToAnExclusiveHeirOnly_andSoOftenAsTheLimitAllows() {
        KeyGates limited = new KeyGates(2);
        List<Waiter> waiters = new ArrayList<>();
        for (int i = 0; i < 5; i++) {
            LockMode mode = i == 4 ? LockMode.SHARED : LockMode.EXCLUSIVE;
            waiters.add(Waiter.forServer(KEY, mode, turn -> {}));
            assertThat(limited.enter(waiters.get(i))).isEqualTo(i == 0);
        }
        assertThat(limited.handOver(waiters.get(1), () -> true))
                .as("not inside")
                .isNull();
        assertThat(limited.handOver(waiters.get(0), () -> true)).isSameAs(waiters.get(1));
        assertThat(limited.handOver(waiters.get(0), () -> true)).as("gone").isNull();
        assertThat(limited.handOver(waiters.get(1), () -> true)).isSameAs(waiters.get(2));
        assertThat(limited.handOver(waiters.get(2), () -> true)).as("the limit").isNull();
        assertThat(waiters).extracting(waiter -> waiter.rests).containsExactly(false, false, true, false, false);
        limited.leave(waiters.get(2));
        assertThat(waiters.get(3).place).isEqualTo(Waiter.Place.INSIDE);
        assertThat(limited.handOver(waiters.get(3), () -> true))
                .as("a shared one")
                .isNull();
        limited.leave(waiters.get(3));
        Waiter writer = Waiter.forServer(KEY, LockMode.EXCLUSIVE, turn -> {});
        assertThat(limited.enter(writer)).isFalse();
        assertThat(limited.handOver(waiters.get(4), () -> true))
                .as("of a shared one")
                .isNull();
        limited.leave(waiters.get(4));
        limited.leave(writer);
        assertThat(limited.size()).isZero();
    }

    @Test
    void severalKeys_passRacesCancel_noGateIsKept() {
        List<LockKey> keys = List.of(LockKey.of(1), LockKey.of(2), LockKey.of(3));
        LockSpec spec = LockSpec.of(keys, LockMode.EXCLUSIVE, null);
        for (int round = 0; round < ROUNDS; round++) {
            Caller holder = new Caller(LockMode.EXCLUSIVE).enter();
            AtomicInteger passed = new AtomicInteger();
            GatePass pass = GatePass.forServer(gates, keys, spec, passed::incrementAndGet);
            pass.queue();
            race(round, holder::leave, pass::leave);
            assertThat(passed.get()).isLessThanOrEqualTo(1);
            assertEmpty();
        }
    }

    @Test
    void manyCallersOfBothModes_neverOverlap_andAllLeave() {
        for (int round = 0; round < ROUNDS / 10; round++) {
            List<Caller> callers = new ArrayList<>();
            for (int i = 0; i < 12; i++) {
                callers.add(
                        new Caller(ThreadLocalRandom.current().nextInt(3) == 0 ? LockMode.EXCLUSIVE : LockMode.SHARED));
            }
            Runnable[] lives = callers.stream()
                    .<Runnable>map(caller -> () -> {
                        caller.enter();
                        gates.prove(caller.waiter);
                        caller.leave();
                    })
                    .toArray(Runnable[]::new);
            race(round, () -> runAll(lives, 0), () -> runAll(lives, 1));
            assertEmpty();
        }
    }

    private static void runAll(Runnable[] lives, int offset) {
        for (int i = offset; i < lives.length; i += 2) {
            lives[i].run();
        }
    }
}

package io.r2lock;

import static org.assertj.core.api.Assertions.assertThat;

import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Queue;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import reactor.test.scheduler.VirtualTimeScheduler;

/** One process's permits, step by step: what is asked of the server, and who gets it. */
class PermitGateTest {

    private static final LockKey KEY = LockKey.of(1);
    private static final int LIMIT = 3;

    private final VirtualTimeScheduler clock = VirtualTimeScheduler.create();
    private final FakeSlots server = new FakeSlots(clock);
    private final PermitGates gates = new PermitGates(server, LIMIT, clock);
    private final Queue<PermitGuest> order = new ConcurrentLinkedQueue<>();

    private PermitGuest guest(int permits) {
        return new PermitGuest(gates, server, order, PermitGuest.waiting(KEY, permits), false);
    }

    private PermitGuest impatient(int permits) {
        LockSpec spec = PermitGuest.waiting(KEY, permits).notWaiting(false);
        return new PermitGuest(gates, server, order, spec, false);
    }

    private PermitGuest enter(int permits) {
        return guest(permits).enter();
    }

    private PermitGuest holder(int permits) {
        PermitGuest holder = enter(permits);
        server.answerAll();
        assertThat(holder.served).hasValue(1);
        return holder;
    }

    private void end(PermitGuest... holders) {
        for (PermitGuest holder : holders) {
            holder.leave();
            server.answerAll();
            assertThat(holder.ended).hasValue(1);
        }
    }

    @AfterEach
    void nothingIsLeft() {
        assertThat(gates.size()).isZero();
        assertThat(server.held()).isZero();
        assertThat(server.pending()).isZero();
    }

    @Test
    void aSingleCaller_triesOneSlotAfterTheOther() {
        for (int slot = 1; slot < 4; slot++) {
            server.elsewhere(KEY.slot(slot), true);
        }
        PermitGuest guest = enter(4);
        int most = 0;
        while (!guest.isServed()) {
            most = Math.max(most, server.pending());
            server.answer();
        }
        assertThat(most).isOne();
        end(guest);
        assertThat(server.unlocks).hasValue(1);
    }

    @Test
    void noMoreTriesThanCallers_andNoneForThoseBeyondThePermits() {
        List<PermitGuest> guests = List.of(enter(3), enter(3), enter(3), enter(3), enter(3));
        assertThat(server.pending()).isEqualTo(3);
        server.answerAll();
        assertThat(order).containsExactlyElementsOf(guests.subList(0, 3));
        assertThat(server.tries).hasValue(3);
        guests.subList(3, 5).forEach(PermitGuest::stop);
        end(guests.subList(0, 3).toArray(PermitGuest[]::new));
    }

    @Test
    void whatIsGranted_goesToWhoWaitsLongest_whoeverItWasTriedFor() {
        server.elsewhere(KEY.slot(0), true);
        List<PermitGuest> guests = List.of(enter(2), enter(2));
        server.answerAll();
        assertThat(order).containsExactly(guests.get(0));
        end(guests.get(0));
        assertThat(order).containsExactlyElementsOf(guests);
        end(guests.get(1));
    }

    @Test
    void handOvers_areLimited_thenTheSlotIsReleasedAndRests() {
        List<PermitGuest> guests = new ArrayList<>();
        for (int i = 0; i < 2 * LIMIT + 2; i++) {
            guests.add(enter(1));
        }
        server.answerAll();
        clock.advanceTimeBy(Duration.ofSeconds(1));
        assertThat(server.grants).hasValue(1);
        for (int i = 0; i < LIMIT; i++) {
            guests.get(i).leave();
            assertThat(guests.get(i).ended).hasValue(1);
            assertThat(guests.get(i + 1).served).hasValue(1);
        }
        assertThat(server.unlocks).hasValue(0);
        end(guests.get(LIMIT));
        assertThat(server.unlocks).hasValue(1);
        assertThat(server.held()).isZero();
        assertThat(guests.get(LIMIT + 1).served).hasValue(0);
        int tries = server.tries.get();
        clock.advanceTimeBy(Duration.ofNanos(TimeUnit.SECONDS.toNanos(1) / 8 - 1));
        server.answerAll();
        assertThat(server.tries).hasValue(tries);
        clock.advanceTimeBy(Duration.ofNanos(1));
        server.answerAll();
        for (int i = LIMIT + 1; i < guests.size(); i++) {
            assertThat(guests.get(i).served).hasValue(1);
            end(guests.get(i));
        }
        assertThat(server.grants).hasValue(2);
        assertThat(order).containsExactlyElementsOf(guests);
    }

    @Test
    void whoDoesNotWait_isRefusedAfterOneRound() {
        server.elsewhere(KEY.slot(0), true);
        server.elsewhere(KEY.slot(1), true);
        PermitGuest guest = impatient(2).enter();
        server.answerAll();
        assertThat(guest.refused).hasValue(1);
        assertThat(server.tries).hasValue(2);
    }

    @Test
    void whoDoesNotWait_findsWhatWasFreeWhenItCame_thoughARoundHadPassedThat() {
        server.elsewhere(KEY.slot(0), true);
        server.elsewhere(KEY.slot(1), true);
        PermitGuest former = impatient(2).enter();
        server.answer();
        // the slot that the round has passed is free, the other one will be found busy
        boolean passedFirst = server.tries.get() == 2;
        assertThat(passedFirst).isTrue();
        server.elsewhere(KEY.slot(0), false);
        server.elsewhere(KEY.slot(1), false);
        PermitGuest latter = impatient(2).enter();
        server.answerAll();
        assertThat(former.isServed()).isTrue();
        assertThat(latter.isServed()).isTrue();
        end(former, latter);
    }

    @Test
    void whoDoesNotWait_isNotRefusedByAnAnswerFromBeforeItCame() {
        server.elsewhere(KEY.slot(0), true);
        PermitGuest waiter = enter(1);
        server.answerAll();
        clock.advanceTimeBy(Duration.ofSeconds(1));
        waiter.stop();
        PermitGuest other = enter(1);
        assertThat(server.pending()).isPositive();
        PermitGuest impatient = impatient(1).enter();
        server.answer();
        server.elsewhere(KEY.slot(0), false);
        other.stop();
        server.answerAll();
        assertThat(impatient.refused).hasValue(0);
        assertThat(impatient.isServed()).isTrue();
        end(impatient);
    }

    @Test
    void whoHoldsSomethingAlready_isServedFirst() {
        PermitGuest holder = holder(1);
        PermitGuest waiter = enter(1);
        PermitGuest nested = new PermitGuest(gates, server, order, PermitGuest.waiting(KEY, 1), true).enter();
        holder.leave();
        assertThat(order).containsExactly(holder, nested);
        nested.leave();
        assertThat(order).containsExactly(holder, nested, waiter);
        end(waiter);
    }

    @Test
    void anotherNumber_isRefusedOnlyWhileTheKeyIsUsed() {
        PermitGuest holder = holder(2);
        PermitGuest other = enter(3);
        assertThat(other.differing).containsExactly(2);
        end(holder);
        end(holder(3));
    }

    @Test
    void polls_afterPausesThatGrow_andStopsWhenNobodyWaits() {
        server.elsewhere(KEY.slot(0), true);
        PermitGuest guest = enter(1);
        server.answerAll();
        List<Integer> tries = new ArrayList<>();
        for (int i = 0; i < 4; i++) {
            int before = server.tries.get();
            for (int millis = 0; millis < 1_000; millis++) {
                clock.advanceTimeBy(Duration.ofMillis(1));
                server.answerAll();
            }
            tries.add(server.tries.get() - before);
        }
        assertThat(tries.get(0)).isBetween(5, 12);
        assertThat(tries.get(3)).isBetween(2, 8);
        guest.stop();
        assertThat(guest.left).hasValue(1);
        int before = server.tries.get();
        clock.advanceTimeBy(Duration.ofSeconds(1));
        assertThat(server.tries).hasValue(before);
    }

    @Test
    void nothingIsHandedOver_toWhoHasATryOnItsWay_whichWouldBeNobodysThen() {
        PermitGuest holder = holder(2);
        PermitGuest next = enter(2);
        assertThat(server.pending()).isOne();
        holder.leave();
        assertThat(next.served).hasValue(0);
        server.answer();
        assertThat(next.served).hasValue(1);
        server.answerAll();
        assertThat(server.held()).isOne();
        end(next);
        assertThat(server.grants).hasValue(2);
    }

    @Test
    void aGrant_doesNotShortenThePauses_ofThoseWhoWaitOn() {
        server.elsewhere(KEY.slot(0), true);
        server.elsewhere(KEY.slot(1), true);
        List<PermitGuest> guests = List.of(enter(2), enter(2));
        for (int millis = 0; millis < 2_000; millis++) {
            server.answerAll();
            clock.advanceTimeBy(Duration.ofMillis(1));
        }
        server.elsewhere(KEY.slot(0), false);
        for (int millis = 0; millis < 400; millis++) {
            server.answerAll();
            clock.advanceTimeBy(Duration.ofMillis(1));
        }
        assertThat(guests.get(0).served).hasValue(1);
        int before = server.tries.get();
        for (int millis = 0; millis < 1_000; millis++) {
            server.answerAll();
            clock.advanceTimeBy(Duration.ofMillis(1));
        }
        assertThat(server.tries.get() - before).isBetween(2, 8);
        guests.get(1).stop();
        end(guests.get(0));
    }
}

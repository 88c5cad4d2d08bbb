package io.r2lock;

import static org.assertj.core.api.Assertions.assertThat;

import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Queue;
import java.util.concurrent.ConcurrentLinkedQueue;
import org.junit.jupiter.api.Test;
import reactor.test.scheduler.VirtualTimeScheduler;
import reactor.test.util.RaceTestUtils;

/** What may meet at a permit gate, each pair raced in both orders, thousands of times. */
class PermitRaceTest {

    private static final int ROUNDS = 10_000;
    private static final int LIMIT = 2;
    private static final LockKey KEY = LockKey.of(1);

    private final VirtualTimeScheduler clock = VirtualTimeScheduler.create();
    private final FakeSlots server = new FakeSlots(clock);
    private final PermitGates gates = new PermitGates(server, LIMIT, clock);
    private final Queue<PermitGuest> order = new ConcurrentLinkedQueue<>();

    private PermitGuest enter(int permits) {
        return guest(permits).enter();
    }

    private PermitGuest guest(int permits) {
        return new PermitGuest(gates, server, order, PermitGuest.waiting(KEY, permits), false);
    }

    private PermitGuest holder(int permits) {
        PermitGuest holder = enter(permits);
        server.answerAll();
        assertThat(holder.served).hasValue(1);
        return holder;
    }

    private static void race(int round, Runnable one, Runnable other) {
        if (round % 2 == 0) {
            RaceTestUtils.race(one, other);
        } else {
            RaceTestUtils.race(other, one);
        }
    }

    /** Serves, and ends, whoever is not told its end yet. */
    private void endAll(PermitGuest... guests) {
        for (int patience = 0; patience < 100 && gates.size() > 0; patience++) {
            server.answerAll();
            for (PermitGuest guest : guests) {
                if (guest.isServed() && guest.caller.place == PermitCaller.Place.INSIDE) {
                    guest.leave();
                }
            }
            server.answerAll();
            clock.advanceTimeBy(Duration.ofSeconds(1));
        }
        for (PermitGuest guest : guests) {
            assertThat(guest.told()).as("told once").isEqualTo(1);
            assertThat(guest.ended).hasValue(guest.served.get());
        }
        assertThat(gates.size()).isZero();
        assertThat(server.held()).isZero();
        assertThat(server.pending()).isZero();
        assertThat(server.unlocks).hasValue(server.grants.get());
        order.clear();
    }

    @Test
    void enterRacesStop() {
        for (int round = 0; round < ROUNDS; round++) {
            PermitGuest guest = guest(2);
            race(round, guest::enter, guest::stop);
            server.answerAll();
            assertThat(guest.left).hasValue(1);
            assertThat(guest.heldWhenLeft).isZero();
            endAll(guest);
        }
    }

    @Test
    void grantRacesStop_andWhatWasGrantedIsBackBeforeAnybodyIsTold() {
        int served = 0;
        for (int round = 0; round < ROUNDS; round++) {
            PermitGuest guest = enter(1);
            race(round, server::answer, guest::stop);
            if (guest.isServed()) {
                served++;
            } else {
                server.answerAll();
                assertThat(guest.heldWhenLeft).isZero();
            }
            endAll(guest);
        }
        assertThat(served).isBetween(1, ROUNDS - 1);
    }

    @Test
    void grantRacesStop_withAnotherWaiter_whoGetsIt() {
        for (int round = 0; round < ROUNDS; round++) {
            PermitGuest stopped = enter(1);
            PermitGuest next = enter(1);
            race(round, server::answer, stopped::stop);
            if (!stopped.isServed()) {
                assertThat(next.isServed()).isTrue();
            }
            endAll(stopped, next);
            assertThat(next.isServed()).isTrue();
        }
    }

    @Test
    void busyAnswerRacesStop() {
        for (int round = 0; round < ROUNDS; round++) {
            server.elsewhere(KEY.slot(0), true);
            PermitGuest guest = enter(2);
            race(round, server::answer, guest::stop);
            endAll(guest);
            server.elsewhere(KEY.slot(0), false);
        }
    }

    @Test
    void handOverRacesStop_theSlotPassesOn() {
        for (int round = 0; round < ROUNDS; round++) {
            PermitGuest holder = holder(1);
            PermitGuest stopped = enter(1);
            PermitGuest next = enter(1);
            race(round, holder::leave, stopped::stop);
            assertThat(stopped.isServed() || next.isServed()).isTrue();
            endAll(holder, stopped, next);
            assertThat(next.isServed()).isTrue();
        }
    }

    @Test
    void handOverRacesStopOfTheOnlyWaiter() {
        for (int round = 0; round < ROUNDS; round++) {
            PermitGuest holder = holder(1);
            PermitGuest stopped = enter(1);
            race(round, holder::leave, stopped::stop);
            endAll(holder, stopped);
        }
    }

    @Test
    void releaseRacesEnter_theNewOneIsServed() {
        for (int round = 0; round < ROUNDS; round++) {
            PermitGuest holder = holder(1);
            PermitGuest next = guest(1);
            race(round, holder::leave, next::enter);
            endAll(holder, next);
            assertThat(next.isServed()).isTrue();
        }
    }

    @Test
    void realReleaseAtTheLimitRacesStop() {
        for (int round = 0; round < ROUNDS; round++) {
            List<PermitGuest> guests = new ArrayList<>(List.of(holder(1)));
            for (int i = 0; i <= LIMIT + 1; i++) {
                guests.add(enter(1));
            }
            for (int i = 0; i < LIMIT; i++) {
                guests.get(i).leave();
            }
            PermitGuest last = guests.get(LIMIT);
            PermitGuest stopped = guests.get(LIMIT + 1);
            last.leave();
            race(round, server::answerAll, stopped::stop);
            endAll(guests.toArray(PermitGuest[]::new));
        }
    }

    @Test
    void endOfAPauseRacesStopAndEnter() {
        for (int round = 0; round < ROUNDS; round++) {
            server.elsewhere(KEY.slot(0), true);
            PermitGuest stopped = enter(1);
            server.answerAll();
            PermitGuest next = guest(1);
            race(round, () -> clock.advanceTimeBy(Duration.ofMillis(20)), () -> {
                stopped.stop();
                next.enter();
            });
            server.elsewhere(KEY.slot(0), false);
            endAll(stopped, next);
            assertThat(next.isServed()).isTrue();
        }
    }

    @Test
    void openingRacesStop() {
        for (int round = 0; round < ROUNDS; round++) {
            server.disconnect();
            PermitGuest stopped = enter(2);
            PermitGuest next = enter(2);
            race(round, server::answerAll, stopped::stop);
            endAll(stopped, next);
            assertThat(next.isServed()).isTrue();
        }
    }

    @Test
    void twoReleasesRace_eachServesOne() {
        for (int round = 0; round < ROUNDS; round++) {
            PermitGuest one = holder(2);
            PermitGuest other = holder(2);
            PermitGuest third = enter(2);
            PermitGuest fourth = enter(2);
            race(round, one::leave, other::leave);
            assertThat(order).hasSize(4);
            endAll(one, other, third, fourth);
        }
    }
}

package io.r2lock;

import static org.assertj.core.api.Assertions.assertThat;

import java.time.Duration;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import reactor.core.publisher.Mono;
import reactor.core.publisher.Sinks;
import reactor.test.scheduler.VirtualTimeScheduler;
import reactor.test.util.RaceTestUtils;

/** When a connection is called quiet, its statement is answered and no CancelRequest is on its way, nor will be. */
class ServerCancelRaceTest {

    private static final int ROUNDS = 10_000;

    private final VirtualTimeScheduler clock = VirtualTimeScheduler.create();
    private final AtomicInteger underWay = new AtomicInteger();
    private final AtomicInteger requests = new AtomicInteger();

    @AfterEach
    void dispose() {
        clock.dispose();
    }

    /** One statement whose CancelRequests end when the test says so. */
    private final class Round {

        private final Sinks.Empty<Void> requestEnds = Sinks.empty();
        private final AtomicInteger quiet = new AtomicInteger();
        private final AtomicInteger early = new AtomicInteger();
        private final ServerCancel cancel;

        Round(boolean requestsTakeTime) {
            this(requestsTakeTime, false);
        }

        Round(boolean requestsTakeTime, boolean behind) {
            requests.set(0);
            LockConnection connection = FakeConnection.open(
                    clock,
                    sql -> Mono.empty(),
                    () -> Mono.defer(() -> {
                        requests.incrementAndGet();
                        underWay.incrementAndGet();
                        Mono<Void> ends = requestsTakeTime ? requestEnds.asMono() : Mono.empty();
                        return ends.doOnTerminate(underWay::decrementAndGet);
                    }));
            cancel = new ServerCancel(connection, clock, this::becomeQuiet, behind);
        }

        private void becomeQuiet() {
            quiet.incrementAndGet();
            early.addAndGet(underWay.get());
        }

        void repeats() {
            clock.advanceTimeBy(Duration.ofMillis(100));
        }

        void assertQuietOnceAndForGood() {
            assertThat(quiet).hasValue(1);
            assertThat(early).as("requests that were still on their way").hasValue(0);
            int before = requests.get();
            repeats();
            repeats();
            assertThat(requests).as("requests after that").hasValue(before);
        }
    }

    private static void race(int round, Runnable one, Runnable other) {
        if (round % 2 == 0) {
            RaceTestUtils.race(one, other);
        } else {
            RaceTestUtils.race(other, one);
        }
    }

    @Test
    void beginRacesSent_aRequestGoesOut() {
        for (int i = 0; i < ROUNDS; i++) {
            Round round = new Round(false);
            race(i, round.cancel::begin, round.cancel::sent);
            assertThat(requests).hasValue(1);
            round.cancel.answered();
            round.assertQuietOnceAndForGood();
        }
    }

    @Test
    void beginRacesAnswered() {
        for (int i = 0; i < ROUNDS; i++) {
            Round round = new Round(false);
            round.cancel.sent();
            race(i, round.cancel::begin, round.cancel::answered);
            round.assertQuietOnceAndForGood();
        }
    }

    @Test
    void beginRacesFree_aRequestGoesOut() {
        for (int i = 0; i < ROUNDS; i++) {
            Round round = new Round(false, true);
            round.cancel.sent();
            race(i, round.cancel::begin, round.cancel::free);
            assertThat(requests).hasValue(1);
            round.cancel.answered();
            round.assertQuietOnceAndForGood();
        }
    }

    @Test
    void begunBehindAnother_nothingGoesOut_beforeItIsFree() {
        Round round = new Round(false, true);
        round.cancel.begin();
        round.cancel.sent();
        round.repeats();
        assertThat(requests).hasValue(0);
        round.cancel.free();
        assertThat(requests).hasValue(1);
        round.repeats();
        assertThat(requests).as("repeated until it is answered").hasValue(2);
        round.cancel.answered();
        round.assertQuietOnceAndForGood();
    }

    @Test
    void freeRacesAnswered_afterBegin() {
        for (int i = 0; i < ROUNDS; i++) {
            Round round = new Round(false, true);
            round.cancel.sent();
            round.cancel.begin();
            race(i, round.cancel::free, round.cancel::answered);
            round.assertQuietOnceAndForGood();
        }
    }

    @Test
    void sentRacesAnswered_afterBegin() {
        for (int i = 0; i < ROUNDS; i++) {
            Round round = new Round(false);
            round.cancel.begin();
            race(i, round.cancel::sent, round.cancel::answered);
            round.assertQuietOnceAndForGood();
        }
    }

    @Test
    void theRequestsEndRacesAnswered() {
        for (int i = 0; i < ROUNDS; i++) {
            Round round = new Round(true);
            round.cancel.sent();
            round.cancel.begin();
            assertThat(underWay).hasValue(1);
            race(i, round.requestEnds::tryEmitEmpty, round.cancel::answered);
            round.assertQuietOnceAndForGood();
        }
    }

    @Test
    void theRepeatRacesAnswered() {
        for (int i = 0; i < ROUNDS; i++) {
            Round round = new Round(false);
            round.cancel.sent();
            round.cancel.begin();
            race(i, round::repeats, round.cancel::answered);
            round.assertQuietOnceAndForGood();
        }
    }
}

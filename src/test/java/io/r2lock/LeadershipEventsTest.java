package io.r2lock;

import static org.assertj.core.api.Assertions.assertThat;

import java.time.Duration;
import java.util.List;
import java.util.Objects;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import reactor.core.Exceptions;
import reactor.core.scheduler.Schedulers;
import reactor.test.StepVerifier;
import reactor.test.util.RaceTestUtils;

/** Who listens misses nothing unknowingly, and holds up nobody. */
class LeadershipEventsTest {

    private static final Duration PATIENCE = Duration.ofSeconds(10);
    private static final LockKey KEY = LockKey.of(1);

    @RegisterExtension
    final NoResidue residue = NoResidue.on();

    private final LeadershipEvents events = new LeadershipEvents(KEY, Schedulers.parallel());

    private void tell(int first, int count) {
        for (int i = first; i < first + count; i++) {
            events.tell(LeadershipEvent.Kind.ELECTED, FencingToken.parse(Integer.toString(i)));
        }
    }

    @Test
    void slowSubscriber_isToldThatItFellBehind_afterWhatItHadRoomFor() {
        // one event may be on its way to the subscriber
        int most = LeadershipEvents.BUFFER + 1;
        StepVerifier.create(events.flux(), 0)
                .then(() -> tell(1, most + 1))
                .thenRequest(Long.MAX_VALUE)
                .thenConsumeWhile(event -> event.term().asLong() <= most)
                .expectErrorMatches(Exceptions::isOverflow)
                .verify(PATIENCE);
    }

    @Test
    void slowSubscriber_thatKeepsWithinItsBuffer_getsAll_andTheOthersDoNotWaitForIt() {
        StepVerifier.create(events.flux().map(event -> event.term().asLong()), 0)
                .then(() -> StepVerifier.create(events.flux())
                        .then(() -> tell(1, LeadershipEvents.BUFFER))
                        .expectNextCount(LeadershipEvents.BUFFER)
                        .thenCancel()
                        .verify(PATIENCE))
                .thenRequest(Long.MAX_VALUE)
                .expectNextSequence(Stream.iterate(1L, term -> term + 1)
                        .limit(LeadershipEvents.BUFFER)
                        .toList())
                .thenCancel()
                .verify(PATIENCE);
    }

    @Test
    void candidatesThatTellAtOnce_areSeenByAllInOneOrder() {
        for (int round = 0; round < 2_000; round++) {
            LeadershipEvents shared = new LeadershipEvents(KEY, Schedulers.parallel());
            var one = shared.flux().take(6).collectList().toFuture();
            var other = shared.flux().take(6).collectList().toFuture();
            RaceTestUtils.race(() -> pair(shared, 1), () -> pair(shared, 2), () -> pair(shared, 3));
            List<LeadershipEvent> seen = Objects.requireNonNull(
                    one.orTimeout(10, java.util.concurrent.TimeUnit.SECONDS).join());
            assertThat(other.orTimeout(10, java.util.concurrent.TimeUnit.SECONDS)
                            .join())
                    .isEqualTo(seen);
            for (int term = 1; term <= 3; term++) {
                long of = term;
                assertThat(Elections.isWellFormed(
                                seen.stream().filter(event -> event.term().asLong() == of)))
                        .isTrue();
            }
        }
    }

    private static void pair(LeadershipEvents shared, int term) {
        shared.tell(LeadershipEvent.Kind.ELECTED, FencingToken.parse(Integer.toString(term)));
        shared.tell(LeadershipEvent.Kind.LOST, FencingToken.parse(Integer.toString(term)));
    }
}

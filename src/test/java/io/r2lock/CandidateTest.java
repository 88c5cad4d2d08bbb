package io.r2lock;

import static io.r2lock.LeadershipEvent.Kind.ELECTED;
import static io.r2lock.LeadershipEvent.Kind.LOST;
import static io.r2lock.LeadershipEvent.Kind.RESIGNED;
import static org.assertj.core.api.Assertions.assertThat;

import io.r2lock.AdvisoryLockException.LockAttempt;
import java.io.IOException;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.function.Function;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.reactivestreams.Publisher;
import org.slf4j.event.Level;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;
import reactor.core.publisher.Sinks;
import reactor.test.StepVerifier;
import reactor.test.publisher.TestPublisher;

/** One candidate, in a time that stands still. */
class CandidateTest {

    private static final Duration PATIENCE = Duration.ofSeconds(10);
    private static final Duration LONGEST_REST = Duration.ofMillis(750);
    private static final LockAttempt OTHER = new LockAttempt(List.of(LockKey.of(2)), LockMode.EXCLUSIVE, Duration.ZERO);

    @RegisterExtension
    final NoResidue residue = NoResidue.on();

    private final FakeClient client = new FakeClient();
    private final Elections elections = new Elections(client);

    @AfterEach
    void close() {
        client.close();
    }

    private void assertFailsWith(Throwable error, Function<Leadership, Publisher<Object>> work) {
        StepVerifier.create(elections.lead(work))
                .expectErrorSatisfies(told -> {
                    assertThat(told).isSameAs(error);
                    assertThat(client.newest().held()).isEmpty();
                })
                .verify(PATIENCE);
        client.assertRest();
    }

    @Test
    void itemsPass_withBackpressure_andCompletionStepsDown() {
        TestPublisher<Integer> work = TestPublisher.create();
        StepVerifier.create(elections.lead(leadership -> work), 0)
                .then(() -> {
                    FakeClient.until("the work", work::wasSubscribed);
                    work.assertMaxRequested(0);
                })
                .thenRequest(2)
                .then(() -> work.assertMaxRequested(2).next(1, 2))
                .expectNext(1, 2)
                .then(() -> assertThat(elections.kinds()).containsExactly(ELECTED))
                .then(work::complete)
                .expectComplete()
                .verify(PATIENCE);
        assertThat(elections.kinds()).containsExactly(ELECTED, RESIGNED);
        assertThat(client.newest().held()).isEmpty();
        client.assertRest();
    }

    @Test
    void demandIsKept_fromTermToTerm() {
        residue.allowLog(Level.WARN, "io.r2lock");
        Sinks.Many<Integer> first = Sinks.many().unicast().onBackpressureBuffer();
        AtomicBoolean again = new AtomicBoolean();
        StepVerifier.create(elections.lead(leadership -> again.getAndSet(true) ? Flux.range(10, 5) : first.asFlux()), 3)
                .then(() -> first.tryEmitNext(1).orThrow())
                .expectNext(1)
                .then(() -> client.newest().breaks(new IOException("gone")))
                .then(() -> FakeClient.until("another term", () -> {
                    client.clock.advanceTimeBy(LONGEST_REST);
                    return elections.told.size() == 3;
                }))
                .expectNext(10, 11)
                .expectNoEvent(Duration.ofMillis(20))
                .thenRequest(3)
                .expectNext(12, 13, 14)
                .expectComplete()
                .verify(PATIENCE);
    }

    @Test
    void errorOfTheWork_endsIt_evenOneThatLooksLikeOurs() {
        for (RuntimeException error : List.of(
                new LockServerException("inner", OTHER, null),
                new LockLostException("inner", OTHER, null),
                new LocksClosedException("inner", OTHER, null),
                new IllegalArgumentException("inner"))) {
            assertFailsWith(error, leadership -> Flux.error(error));
            assertFailsWith(error, leadership -> {
                throw error;
            });
        }
        assertThat(elections.kinds()).containsOnly(ELECTED, RESIGNED).hasSize(16);
    }

    @Test
    @SuppressWarnings("NullAway") // null is what is returned
    void workThatIsNull_orFatal_endsIt() {
        StepVerifier.create(elections.lead(leadership -> (Publisher<Object>) null))
                .expectErrorSatisfies(told -> assertThat(told)
                        .isInstanceOf(NullPointerException.class)
                        .hasMessageContaining("returned null"))
                .verify(PATIENCE);
        client.assertRest();
        StackOverflowError fatal = new StackOverflowError("work");
        assertFailsWith(fatal, leadership -> {
            throw fatal;
        });
    }

    @Test
    void loss_cancelsTheWork_tells_andCampaignsAgainAfterAPause() {
        residue.allowLog(Level.WARN, "io.r2lock");
        Elections.Idle idle = elections.new Idle();
        for (int term = 1; term < 4; term++) {
            idle.assertIsLeader(term);
            Leadership leadership = idle.leadership();
            int sessions = client.sessions.size();
            client.newest().breaks(new IOException("gone"));
            StepVerifier.create(leadership.lost())
                    .expectError(LockLostException.class)
                    .verify(PATIENCE);
            leadership.resign().block(PATIENCE);
            assertThat(idle.cancelled).hasValue(term);
            client.clock.advanceTimeBy(Duration.ofMillis(49));
            assertThat(client.sessions).as("no campaign so soon").hasSize(sessions);
            idle.untilLeader(term + 1);
        }
        idle.assertIsLeader(4);
        assertThat(elections.happened)
                .containsSubsequence("ELECTED", "work", "cancelled", "LOST", "ELECTED", "work", "cancelled", "LOST");
        assertThat(elections.told)
                .extracting(event -> event.term().asLong())
                .containsExactly(1L, 1L, 2L, 2L, 3L, 3L, 4L);
        idle.call.dispose();
        assertThat(elections.kinds()).endsWith(ELECTED, RESIGNED);
        client.assertRest();
    }

    @Test
    void resign_cancelsTheWork_thenReleases_thenRests_thenCampaignsAgain() {
        Elections.Idle idle = elections.new Idle();
        idle.assertIsLeader(1);
        FakeSession session = client.newest();
        session.answersAtOnce(false);
        Leadership leadership = idle.leadership();
        Mono<Void> resigned = leadership.resign();
        assertThat(idle.cancelled).as("resign is cold").hasValue(0);
        AtomicBoolean done = new AtomicBoolean();
        resigned.subscribe().dispose();
        resigned.doOnSuccess(nothing -> done.set(true)).subscribe();
        assertThat(idle.cancelled).hasValue(1);
        assertThat(elections.kinds()).as("the lock is not back yet").containsExactly(ELECTED);
        assertThat(done).isFalse();
        FakeClient.until("the release", () -> session.inFlight() == 1);
        session.answersAtOnce(true).answerAll();
        FakeClient.until("resigned", done::get);
        assertThat(session.held()).isEmpty();
        assertThat(elections.kinds()).containsExactly(ELECTED, RESIGNED);
        leadership.lost().block(PATIENCE);
        client.clock.advanceTimeBy(Duration.ofMillis(Candidate.PAUSE_MILLIS / 2 - 1));
        assertThat(session.held()).as("others have their turn").isEmpty();
        idle.untilLeader(2);
        leadership.resign().block(PATIENCE);
        assertThat(idle.cancelled).as("a term that is over ends no other").hasValue(1);
        idle.call.dispose();
        client.assertRest();
    }

    private void untilElected(int times) {
        FakeClient.until(times + " elections", () -> {
            client.clock.advanceTimeBy(Duration.ofMillis(10));
            return elections.kinds().stream().filter(kind -> kind == ELECTED).count() == times;
        });
    }

    @Test
    void theWorkItselfMayResign() {
        AtomicBoolean again = new AtomicBoolean();
        StepVerifier.create(elections.lead(leadership -> again.getAndSet(true)
                        ? Flux.just("second")
                        : Flux.just("first").concatWith(leadership.resign().then(Mono.never()))))
                .expectNext("first")
                .then(() -> untilElected(2))
                .expectNext("second")
                .expectComplete()
                .verify(PATIENCE);
        again.set(false);
        StepVerifier.create(elections.lead(leadership -> {
                    if (!again.getAndSet(true)) {
                        leadership.resign().subscribe();
                    }
                    return Flux.just(again.get());
                }))
                .then(() -> untilElected(4))
                .expectNext(true)
                .expectComplete()
                .verify(PATIENCE);
        assertThat(elections.kinds()).hasSize(8);
        client.assertRest();
    }

    @Test
    void lossThatIsFoundAtTheEnd_isTold_butTheWorkIsDone() {
        residue.allowLog(Level.WARN, "io.r2lock");
        StepVerifier.create(elections.lead(leadership -> Flux.just(1)
                        .concatWith(Mono.fromRunnable(() -> client.newest().forget(FakeClient.KEY)))))
                .expectNext(1)
                .expectComplete()
                .verify(PATIENCE);
        assertThat(elections.kinds()).containsExactly(ELECTED, LOST);
    }

    private void untilRefused(int times) {
        FakeClient.until(times + " attempts", () -> {
            boolean enough = client.refusedAt.size() >= times;
            if (!enough) {
                client.clock.advanceTimeBy(Duration.ofMillis(10));
            }
            return enough;
        });
    }

    @Test
    void serverThatRefuses_isAskedAgain_lessAndLessOften_andThatIsLogged() {
        residue.allowLog(Level.WARN, "io.r2lock");
        client.refusal = new IllegalStateException("no server today");
        try (LogCount lines = new LogCount(Level.WARN)) {
            Elections.Idle idle = elections.new Idle();
            untilRefused(15);
            List<Long> at = client.refusedAt;
            long nominal = 100;
            for (int i = 1; i < 15; i++) {
                // time runs on a little before each of them has come
                assertThat(at.get(i) - at.get(i - 1)).isBetween(nominal / 2, nominal * 3 / 2 + 1_000);
                nominal = Math.min(2 * nominal, 5_000);
            }
            assertThat(idle.ended).hasValue(0);
            assertThat(lines.messages())
                    .isNotEmpty()
                    .allSatisfy(line -> assertThat(line)
                            .contains("election", "campaigns in a row", "LockServerException", "no server today"));
            client.refusal = null;
            idle.untilLeader(1);
            idle.call.dispose();
        }
        assertThat(elections.kinds()).containsExactly(ELECTED, RESIGNED);
        client.assertRest();
    }

    @Test
    void aFewFailures_areNoNews() {
        for (int i = 0; i < 2; i++) {
            client.refusal = new IllegalStateException("restarting");
            int most = client.refusedAt.size() + Candidate.FAILURES_TO_WARN - 1;
            Elections.Idle idle = elections.new Idle();
            untilRefused(most);
            client.refusal = null;
            idle.untilLeader(1);
            idle.call.dispose();
            client.assertRest();
            client.newest().breaks(new IOException("gone"));
        }
    }

    @Test
    void tokenThatCannotBeHad_isAFailureOfTheCampaign() {
        var tokens = elections.tokens;
        for (RuntimeException passing :
                List.of(new LockServerException("no", OTHER, null), new LockLostException("no", OTHER, null))) {
            elections.tokens = hold -> Mono.error(passing);
            Elections.Idle idle = elections.new Idle();
            FakeClient.until("a release", () -> client.locks.live() == 0 && client.sessions.size() > 0);
            assertThat(client.newest().held()).isEmpty();
            elections.tokens = tokens;
            idle.untilLeader(1);
            idle.call.dispose();
        }
        assertThat(elections.kinds()).containsExactly(ELECTED, RESIGNED, ELECTED, RESIGNED);
        for (RuntimeException last : List.of(
                new IllegalStateException("unsafe"), new IllegalArgumentException("no"), new ArithmeticException())) {
            elections.tokens = hold -> Mono.error(last);
            assertFailsWith(last, leadership -> Flux.never());
            elections.tokens = hold -> {
                throw last;
            };
            assertFailsWith(last, leadership -> Flux.never());
        }
        assertThat(elections.kinds()).hasSize(4);
    }

    @Test
    void closedClient_endsIt_wherever() {
        Elections.Idle leader = elections.new Idle();
        leader.assertIsLeader(1);
        Elections.Idle queued = elections.new Idle();
        assertThat(client.locks.waiting()).isEqualTo(1);
        client.locks.close().subscribe();
        FakeClient.until("the end of the wait", () -> queued.error.get() instanceof LocksClosedException);
        client.graceIsOver();
        FakeClient.until("the end", () -> leader.error.get() != null);
        assertThat(leader.error.get()).isInstanceOf(LocksClosedException.class);
        assertThat(leader.cancelled).hasValue(1);
        assertThat(elections.kinds()).containsExactly(ELECTED, LOST);
        Elections.Idle late = elections.new Idle();
        assertThat(late.error.get()).isInstanceOf(LocksClosedException.class);
    }

    @Test
    void aWaitThatIsOver_isNoError_andLeadsToTheEndOfTheQueue() {
        Elections.Idle leader = elections.new Idle();
        leader.assertIsLeader(1);
        Elections.Idle first = elections.new Idle();
        Elections.Idle second = elections.new Idle();
        for (int i = 0; i < 10; i++) {
            client.clock.advanceTimeBy(Duration.ofSeconds(Candidate.WAIT_SECONDS));
            FakeClient.until("both wait", () -> client.locks.waiting() == 2);
        }
        assertThat(first.ended.get() + second.ended.get()).isZero();
        assertThat(first.error.get()).isNull();
        leader.call.dispose();
        FakeClient.until("a successor", () -> first.begun.get() + second.begun.get() == 1);
        first.call.dispose();
        second.call.dispose();
        client.assertRest();
    }

    @Test
    void cancel_inEachPhase_leavesNothing() {
        FakeSession session = client.open();
        session.answersAtOnce(false);
        Elections.Idle asking = elections.new Idle();
        FakeClient.until("the try", () -> session.inFlight() == 1);
        asking.call.dispose();
        session.answersAtOnce(true).answerAll();
        client.assertRest();

        Sinks.One<FencingToken> token = Sinks.one();
        var tokens = elections.tokens;
        elections.tokens = hold -> token.asMono();
        Elections.Idle tokenPending = elections.new Idle();
        FakeClient.until("the grant", () -> token.currentSubscriberCount() == 1);
        assertThat(session.held()).isNotEmpty();
        tokenPending.call.dispose();
        client.assertRest();
        elections.tokens = tokens;
        assertThat(elections.kinds()).isEmpty();

        Elections.Idle leading = elections.new Idle();
        leading.assertIsLeader(1);
        Elections.Idle queued = elections.new Idle();
        queued.call.dispose();
        assertThat(client.locks.waiting()).isZero();
        session.answersAtOnce(false);
        leading.leadership().resign().subscribe();
        leading.call.dispose();
        assertThat(elections.kinds()).containsExactly(ELECTED);
        session.answersAtOnce(true).answerAll();
        client.assertRest();
        assertThat(elections.kinds()).containsExactly(ELECTED, RESIGNED);

        Elections.Idle pausing = elections.new Idle();
        pausing.assertIsLeader(1);
        pausing.leadership().resign().block(PATIENCE);
        pausing.call.dispose();
        client.clock.advanceTimeBy(LONGEST_REST);
        client.assertRest();
        assertThat(pausing.begun).hasValue(1);
    }
}

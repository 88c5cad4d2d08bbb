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
import org.reactivestreams.Subscription;
import org.slf4j.event.Level;
import reactor.core.publisher.BaseSubscriber;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;
import reactor.core.publisher.Sinks;
import reactor.test.StepVerifier;
import reactor.test.publisher.TestPublisher;

/** The terms of one candidate, in a time that stands still. */
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
        elections.assertTold(ELECTED, RESIGNED);
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
        elections.assertTold(ELECTED, LOST, ELECTED, LOST, ELECTED, LOST, ELECTED, RESIGNED);
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
        assertThat(idle.heldAtCancel).containsExactly(true);
        assertThat(elections.kinds()).as("the lock is not back yet").containsExactly(ELECTED);
        assertThat(done).isFalse();
        FakeClient.until("the release", () -> session.inFlight() == 1);
        session.answersAtOnce(true).answerAll();
        FakeClient.until("resigned", done::get);
        assertThat(session.held()).isEmpty();
        elections.assertTold(ELECTED, RESIGNED);
        leadership.lost().block(PATIENCE);
        client.clock.advanceTimeBy(Duration.ofMillis(Candidate.PAUSE_MILLIS - 1));
        assertThat(session.held()).as("others have their turn").isEmpty();
        idle.untilLeader(2);
        leadership.resign().block(PATIENCE);
        assertThat(idle.cancelled).as("a term that is over ends no other").hasValue(1);
        idle.call.dispose();
        assertThat(idle.heldAtCancel).containsExactly(true, true);
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
        elections.assertTold(ELECTED, LOST);
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
        elections.assertTold(ELECTED, RESIGNED);

        Elections.Idle pausing = elections.new Idle();
        pausing.assertIsLeader(1);
        pausing.leadership().resign().block(PATIENCE);
        pausing.call.dispose();
        client.clock.advanceTimeBy(LONGEST_REST);
        client.assertRest();
        assertThat(pausing.begun).hasValue(1);
    }

    @Test
    void cancel_isToldWhenTheLockIsBack() {
        Elections.Idle idle = elections.new Idle();
        idle.assertIsLeader(1);
        FakeSession session = client.newest();
        session.answersAtOnce(false);
        idle.call.dispose();
        FakeClient.until("the release", () -> session.inFlight() == 1);
        assertThat(idle.cancelled).hasValue(1);
        assertThat(elections.kinds()).containsExactly(ELECTED);
        session.answersAtOnce(true).answerAll();
        elections.assertTold(ELECTED, RESIGNED);
        client.assertRest();
    }

    @Test
    void cancelBetweenTokenAndWork_electsNobody() {
        FakeCaller caller = client.acquire();
        caller.assertToldOnce();
        Term<Object> term = new Term<>(caller.hold(), FencingToken.parse("1"), elections.events, leadership -> {
            throw new AssertionError("the work was called");
        });
        term.subscribe(new BaseSubscriber<Object>() {
            @Override
            protected void hookOnSubscribe(Subscription subscription) {
                cancel();
            }
        });
        assertThat(term.state()).isEqualTo(Term.State.CANCELLED);
        assertThat(elections.kinds()).isEmpty();
        caller.release();
        client.assertRest();
    }
}

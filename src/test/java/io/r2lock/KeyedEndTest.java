package io.r2lock;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.time.Duration;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.function.Function;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.reactivestreams.Subscription;
import reactor.core.CoreSubscriber;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;
import reactor.test.StepVerifier;
import reactor.test.publisher.TestPublisher;
import reactor.test.util.RaceTestUtils;

/** How {@code flatMapLocked} ends: errors, cancels, bad arguments; whatever happens, nothing stays held. */
@Timeout(120)
class KeyedEndTest {

    private static final int ROUNDS = 3_000;

    @RegisterExtension
    final NoResidue residue = NoResidue.on();

    private final KeyedCalls calls = new KeyedCalls();

    @AfterEach
    void close() {
        calls.close();
    }

    @Test
    void aSourceThatSendsMoreThanAsked_isAnError() {
        TestPublisher<Integer> wild = TestPublisher.createNoncompliant(TestPublisher.Violation.REQUEST_OVERFLOW);
        KeyedTaker taker = KeyedCalls.taker(calls.stream(wild, 1), 1);
        wild.next(10, 20, 30, 40, 50);
        assertThat(taker.error).hasMessageContaining("more than was asked for");
        assertThat(taker.ends).hasValue(1);
    }

    @Test
    void badRequest_isAnError() {
        for (long n : new long[] {0, -1, Long.MIN_VALUE}) {
            KeyedTaker taker = new KeyedTaker();
            calls.stream(Flux.just(10), 1).subscribe(new CoreSubscriber<>() {
                @Override
                public void onSubscribe(Subscription subscription) {
                    subscription.request(n);
                }

                @Override
                public void onNext(Integer value) {
                    taker.hookOnNext(value);
                }

                @Override
                public void onError(Throwable error) {
                    taker.hookOnError(error);
                }

                @Override
                public void onComplete() {
                    taker.hookOnComplete();
                }
            });
            assertThat(taker.error).isInstanceOf(IllegalArgumentException.class).hasMessageContaining("was " + n);
            assertThat(taker.ends).hasValue(1);
        }
    }

    @Test
    void emptyAndFailedSources() {
        StepVerifier.create(calls.stream(Flux.empty(), 1)).verifyComplete();
        StepVerifier.create(calls.stream(Flux.error(new IllegalStateException("source")), 1))
                .verifyErrorMessage("source");
    }

    @Test
    void errorOfTheSource_cancelsWhatRuns() {
        TestPublisher<Integer> source = TestPublisher.create();
        KeyedTaker taker = KeyedCalls.taker(calls.stream(source, 4), Long.MAX_VALUE);
        source.next(10, 11, 20);
        source.error(new IllegalStateException("source"));
        assertThat(taker.error).hasMessage("source");
        assertThat(calls.runs(10)).isFalse();
        assertThat(calls.runs(20)).isFalse();
    }

    @Test
    void errorOfAWork_endsIt_andTheNextOfItsKeyNeverBegins() {
        TestPublisher<Integer> source = TestPublisher.create();
        List<Object> discarded = new CopyOnWriteArrayList<>();
        KeyedTaker taker =
                KeyedCalls.taker(calls.stream(source, 4).doOnDiscard(Object.class, discarded::add), Long.MAX_VALUE);
        source.next(10, 11, 12, 20);
        IllegalStateException error = new IllegalStateException("work");
        calls.fail(10, error);
        assertThat(taker.error).isSameAs(error);
        source.assertWasCancelled();
        calls.client.assertRest();
        assertThat(calls.begun).containsExactly(10, 20);
        assertThat(discarded).containsExactlyInAnyOrder(11, 12);
        assertThat(calls.runs(20)).isFalse();
    }

    @Test
    void errorsOfTheFunctions_areToldByTheStream() {
        IllegalStateException error = new IllegalStateException("function");
        StepVerifier.create(calls.client.locks.<Integer, Integer>flatMapLocked(
                        Flux.just(1),
                        item -> {
                            throw error;
                        },
                        Mono::just,
                        1))
                .verifyErrorMessage("function");
        StepVerifier.create(calls.client.locks.<Integer, Integer>flatMapLocked(
                        Flux.just(1),
                        calls::own,
                        item -> {
                            throw error;
                        },
                        1))
                .verifyErrorMessage("function");
        StepVerifier.create(calls.client.locks.<Integer, Integer>flatMapLocked(
                        Flux.just(1), calls::own, KeyedEndTest::nothing, 1))
                .expectErrorMessage("work returned null")
                .verify();
        LockRequest foreign = foreign();
        for (Function<Integer, LockRequest> bad :
                List.<Function<Integer, LockRequest>>of(KeyedEndTest::nothing, item -> foreign)) {
            StepVerifier.create(calls.client.locks.flatMapLocked(Flux.just(1), bad, Mono::just, 1))
                    .verifyErrorSatisfies(told -> assertThat(told)
                            .isInstanceOf(IllegalArgumentException.class)
                            .hasMessageContaining("lockOf must return a request of the client")
                            .hasMessageContaining("was " + bad.apply(1)));
        }
        StepVerifier.create(calls.client.locks.flatMapLocked(
                        Flux.just(1),
                        item -> calls.client.locks.exclusive(LockKey.of(1)).holdAtLeast(Duration.ofSeconds(1)),
                        Mono::just,
                        1))
                .verifyErrorSatisfies(told -> assertThat(told).hasMessageContaining("holdAtLeast"));
    }

    @SuppressWarnings({"NullAway", "TypeParameterUnusedInFormals"}) // null is what a user may return
    private static <T> T nothing(Integer item) {
        return null;
    }

    private static LockRequest foreign() {
        FakeClient other = new FakeClient();
        LockRequest request = other.locks.exclusive(LockKey.of(1)).inSession();
        other.close();
        return request;
    }

    @Test
    @SuppressWarnings("NullAway") // nulls are what is passed in
    void badArguments() {
        AdvisoryLocks locks = calls.client.locks;
        Flux<Integer> source = Flux.just(1);
        assertThatThrownBy(() -> locks.flatMapLocked(null, calls.byTens, Mono::just, 1))
                .hasMessage("source must not be null");
        assertThatThrownBy(() -> locks.flatMapLocked(source, null, Mono::just, 1))
                .hasMessage("lockOf must not be null");
        assertThatThrownBy(() -> locks.flatMapLocked(source, calls.byTens, null, 1))
                .hasMessage("work must not be null");
        for (int bad : new int[] {0, -1, 65_537}) {
            assertThatThrownBy(() -> locks.flatMapLocked(source, calls.byTens, Mono::just, bad))
                    .isInstanceOf(IllegalArgumentException.class)
                    .hasMessage("concurrency must be from 1 to 65536, was " + bad);
        }
    }

    @Test
    void contextOfTheSubscriber_isThatOfSourceFunctionsAndWorks() {
        Flux<Integer> source = Flux.deferContextual(context -> Flux.just((int) context.get("item")));
        StepVerifier.create(calls.client
                        .locks
                        .flatMapLocked(
                                source,
                                calls::own,
                                item -> Mono.deferContextual(context -> Mono.just(item + (int) context.get("item"))),
                                1)
                        .contextWrite(context -> context.put("item", 7)))
                .expectNext(14)
                .verifyComplete();
    }

    @Test
    void aClosedClient_isAnError_andWhatRunsMayEndFirst() {
        KeyedTaker taker = KeyedCalls.taker(calls.stream(Flux.just(10, 11), 4), Long.MAX_VALUE);
        Mono<Void> closed = calls.client.locks.close().cache();
        closed.subscribe();
        assertThat(taker.ends).as("the one that is queued has its error").hasValue(0);
        calls.finish(10);
        FakeClient.until("the end", () -> taker.ends.get() == 1);
        assertThat(taker.error).isInstanceOf(LocksClosedException.class);
        assertThat(calls.begun).containsExactly(10);
        assertThat(taker.taken).containsExactly(10);
    }

    @Test
    void whatASubscriberThrows_leavesNothingHeld() {
        residue.allowDroppedErrors();
        TestPublisher<Integer> source = TestPublisher.create();
        calls.stream(source, 4).subscribe(new CoreSubscriber<>() {
            @Override
            public void onSubscribe(Subscription subscription) {
                subscription.request(Long.MAX_VALUE);
            }

            @Override
            public void onNext(Integer value) {
                throw new IllegalStateException("subscriber");
            }

            @Override
            public void onError(Throwable error) {
                throw new AssertionError(error);
            }

            @Override
            public void onComplete() {
                throw new AssertionError();
            }
        });
        source.next(10, 11, 20);
        calls.finish(10);
        source.assertWasCancelled();
        calls.client.assertRest();
    }

    @Test
    void cancel_againstErrorAndCompletion() {
        // by the subscriber, which was told while it cancelled
        residue.allowDroppedErrors();
        for (int i = 0; i < ROUNDS; i++) {
            calls.works.clear();
            KeyedTaker taker = KeyedCalls.taker(calls.stream(Flux.just(10, 11, 12, 20), 4), Long.MAX_VALUE);
            Runnable end = i % 4 < 2 ? () -> calls.finish(10) : () -> calls.fail(10, new IllegalStateException("work"));
            if (i % 2 == 0) {
                RaceTestUtils.race(taker::cancel, end);
            } else {
                RaceTestUtils.race(end, taker::cancel);
            }
            assertThat(taker.taken.size() + taker.ends.get()).isLessThanOrEqualTo(1);
            calls.client.assertRest();
        }
    }

    @Test
    void errorOfOneKey_againstTheEndOfAnother() {
        for (int i = 0; i < ROUNDS; i++) {
            calls.works.clear();
            calls.begun.clear();
            KeyedTaker taker = KeyedCalls.taker(calls.stream(Flux.just(10, 11, 20, 21), 4), Long.MAX_VALUE);
            RaceTestUtils.race(() -> calls.fail(10, new IllegalStateException("work")), () -> calls.finish(20));
            FakeClient.until("the end", () -> taker.ends.get() == 1);
            assertThat(taker.error).hasMessage("work");
            calls.client.assertRest();
            assertThat(calls.begun).doesNotContain(11);
            assertThat(taker.overlaps).hasValue(0);
        }
    }
}

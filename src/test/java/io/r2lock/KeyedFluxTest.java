package io.r2lock;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Queue;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.Function;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.reactivestreams.Publisher;
import reactor.core.publisher.BaseSubscriber;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;
import reactor.core.publisher.Sinks;
import reactor.test.StepVerifier;
import reactor.test.publisher.TestPublisher;
import reactor.test.util.RaceTestUtils;

/** The rules of {@code flatMapLocked}, on a server that answers at once. */
@Timeout(120)
class KeyedFluxTest {

    private static final int ROUNDS = 5_000;

    @RegisterExtension
    final NoResidue residue = NoResidue.on();

    private final FakeClient client = new FakeClient();
    private final Map<Integer, Sinks.One<Integer>> works = new ConcurrentHashMap<>();
    private final List<Integer> begun = new CopyOnWriteArrayList<>();

    /** The key of an item is its tens. */
    private final Function<Integer, LockRequest> byTens = item -> exclusive(item / 10);

    KeyedFluxTest() {
        client.open();
    }

    @AfterEach
    void close() {
        client.assertRest();
        client.close();
    }

    private LockRequest exclusive(int key, int... more) {
        List<LockKey> keys = new ArrayList<>(List.of(LockKey.of(key)));
        for (int one : more) {
            keys.add(LockKey.of(one));
        }
        return client.locks.exclusive(keys).inSession();
    }

    private Mono<Integer> work(Integer item) {
        begun.add(item);
        return works.computeIfAbsent(item, none -> Sinks.one()).asMono();
    }

    private void finish(int item) {
        works.computeIfAbsent(item, none -> Sinks.one()).tryEmitValue(item).orThrow();
    }

    private void fail(int item, Throwable error) {
        works.computeIfAbsent(item, none -> Sinks.one()).tryEmitError(error).orThrow();
    }

    private Flux<Integer> stream(Publisher<Integer> source, int concurrency) {
        return client.locks.flatMapLocked(source, byTens, this::work, concurrency);
    }

    /** Takes what it asked for, and counts signals that overlap. */
    private static class Taker extends BaseSubscriber<Integer> {
        final Queue<Integer> taken = new ConcurrentLinkedQueue<>();
        final AtomicInteger ends = new AtomicInteger();
        final AtomicInteger overlaps = new AtomicInteger();
        final AtomicInteger inside = new AtomicInteger();
        volatile Throwable error = new IllegalStateException("none");

        private void signal(Runnable body) {
            if (inside.getAndIncrement() != 0) {
                overlaps.incrementAndGet();
            }
            body.run();
            inside.decrementAndGet();
        }

        @Override
        protected void hookOnSubscribe(org.reactivestreams.Subscription subscription) {
            // asks for nothing by itself
        }

        @Override
        protected void hookOnNext(Integer value) {
            signal(() -> taken.add(value));
        }

        @Override
        protected void hookOnComplete() {
            signal(ends::incrementAndGet);
        }

        @Override
        protected void hookOnError(Throwable thrown) {
            error = thrown;
            signal(ends::incrementAndGet);
        }
    }

    private Taker taker(Flux<Integer> stream, long request) {
        Taker taker = new Taker();
        stream.subscribe(taker);
        if (request > 0) {
            taker.request(request);
        }
        return taker;
    }

    @Test
    void itemsOfOneKey_runInTheirOrder_othersSideBySide() {
        Taker taker = taker(stream(Flux.just(10, 11, 12, 20, 30), 8), Long.MAX_VALUE);
        assertThat(begun).containsExactly(10, 20, 30);
        finish(30);
        finish(10);
        assertThat(begun).containsExactly(10, 20, 30, 11);
        finish(20);
        finish(11);
        finish(12);
        FakeClient.until("the end", () -> taker.ends.get() == 1);
        assertThat(taker.taken).containsExactly(30, 10, 20, 11, 12);
    }

    @Test
    void theNextOfAKey_hasTheLockWithoutTheServer() {
        FakeSession server = client.newest();
        Taker taker = taker(stream(Flux.just(10, 11, 12, 13), 8), Long.MAX_VALUE);
        int before = server.messages.size();
        for (int item : new int[] {10, 11, 12}) {
            FakeClient.until("its turn", () -> begun.contains(item));
            finish(item);
        }
        FakeClient.until("the turn of the last", () -> begun.contains(13));
        assertThat(server.messages).hasSize(before);
        finish(13);
        FakeClient.until("the end", () -> taker.ends.get() == 1);
    }

    @Test
    void requestsThatDoNotWaitForEver_doNotQueueBehindTheirOwn() {
        List<Function<LockRequest, LockRequest>> impatient = List.of(
                LockRequest::noWait, LockRequest::skipIfBusy, request -> request.waitAtMost(Duration.ofNanos(1)));
        for (Function<LockRequest, LockRequest> how : impatient) {
            works.clear();
            Taker taker = taker(
                    client.locks.flatMapLocked(Flux.just(10, 11), item -> how.apply(exclusive(1)), this::work, 8),
                    Long.MAX_VALUE);
            client.clock.advanceTimeBy(Duration.ofSeconds(1));
            finish(10);
            finish(11);
            FakeClient.until("the end", () -> taker.ends.get() == 1);
            assertThat(taker.taken).containsExactly(10, 11);
        }
    }

    @Test
    void skippedItem_emitsNothing() {
        client.newest().busy(LockKey.of(1));
        StepVerifier.create(client.locks.flatMapLocked(
                        Flux.just(10, 20), item -> exclusive(item / 10).skipIfBusy(), Mono::just, 8))
                .expectNext(20)
                .verifyComplete();
    }

    @Test
    void itemOfSeveralKeys_waitsForAllEarlierOnes_andTheLaterOnesForIt() {
        Map<Integer, LockRequest> requests = Map.of(
                1,
                exclusive(1),
                2,
                exclusive(2),
                3,
                exclusive(1, 2, 3),
                4,
                exclusive(3),
                5,
                exclusive(2, 1),
                6,
                exclusive(6));
        Taker taker = taker(client.locks.flatMapLocked(Flux.range(1, 6), requests::get, this::work, 8), Long.MAX_VALUE);
        assertThat(begun).containsExactly(1, 2, 6);
        finish(2);
        assertThat(begun).containsExactly(1, 2, 6);
        finish(1);
        assertThat(begun).containsExactly(1, 2, 6, 3);
        finish(3);
        assertThat(begun).containsExactly(1, 2, 6, 3, 4, 5);
        finish(4);
        finish(5);
        finish(6);
        assertThat(taker.taken).containsExactly(2, 1, 3, 4, 5, 6);
        assertThat(taker.ends).hasValue(1);
    }

    /** A permit and a lock of one key, or a reader behind another, would both go in. */
    @Test
    void whatDoesNotExcludeEachOtherAtTheServer_runsInOrderAllTheSame() {
        LockKey key = LockKey.of(1);
        Map<Integer, LockRequest> requests = Map.of(
                1,
                exclusive(1),
                2,
                client.locks.permit(key, 3),
                3,
                client.locks.permit(key, 3),
                4,
                client.locks.shared(key).inSession(),
                5,
                client.locks.shared(key).inSession());
        Taker taker = taker(client.locks.flatMapLocked(Flux.range(1, 5), requests::get, this::work, 8), Long.MAX_VALUE);
        for (int item = 1; item <= 5; item++) {
            assertThat(begun).hasSize(item);
            finish(item);
        }
        assertThat(taker.taken).containsExactly(1, 2, 3, 4, 5);
    }

    @Test
    void atMostConcurrencyRun_andWaitersForAKeyTakeNoPlace() {
        Taker taker = taker(stream(Flux.just(10, 11, 12, 13, 20, 30), 2), Long.MAX_VALUE);
        assertThat(begun).containsExactly(10, 20);
        finish(20);
        assertThat(begun).containsExactly(10, 20, 30);
        for (int item : new int[] {10, 11, 12, 13, 30}) {
            finish(item);
        }
        FakeClient.until("the end", () -> taker.ends.get() == 1);
    }

    /** Else a key that always has one more would keep its place for ever. */
    @Test
    void aKeyWithManyItems_doesNotKeepThePlaceWhileOthersWait() {
        Taker taker = taker(stream(Flux.just(10, 11, 20, 12), 1), Long.MAX_VALUE);
        finish(10);
        finish(20);
        finish(11);
        finish(12);
        FakeClient.until("the end", () -> taker.ends.get() == 1);
        assertThat(begun.indexOf(20)).isLessThan(begun.indexOf(12));
    }

    @Test
    void theSourceIsAskedForTheWindow_andForMoreOnlyWhenValuesAreTaken() {
        TestPublisher<Integer> source = TestPublisher.create();
        AtomicInteger asked = new AtomicInteger();
        Flux<Integer> counted = source.flux().doOnRequest(n -> asked.addAndGet((int) n));
        Taker taker = taker(client.locks.flatMapLocked(counted, byTens, Mono::just, 2), 0);
        assertThat(asked).hasValue(8);
        source.next(10, 20, 30, 40, 50, 60, 70, 80);
        assertThat(asked).as("all are done, none is taken").hasValue(8);
        taker.request(3);
        assertThat(taker.taken).containsExactly(10, 20, 30);
        assertThat(asked).hasValue(11);
        taker.request(100);
        assertThat(asked).hasValue(16);
        source.complete();
        assertThat(taker.ends).hasValue(1);
    }

    @Test
    void itemsWithoutValues_leaveTheWindowAtOnce_andThoseWithManyWithTheLast() {
        AtomicInteger asked = new AtomicInteger();
        Flux<Integer> source = Flux.range(1, 9).concatWith(Flux.never()).doOnRequest(n -> asked.addAndGet((int) n));
        Taker taker = taker(
                client.locks.flatMapLocked(source, this::own, item -> item < 9 ? Flux.empty() : Flux.just(1, 2, 3), 1),
                0);
        assertThat(asked).hasValue(12);
        taker.request(2);
        assertThat(asked).hasValue(12);
        taker.request(1);
        assertThat(asked).hasValue(13);
        assertThat(taker.taken).containsExactly(1, 2, 3);
        taker.cancel();
    }

    private LockRequest own(Integer item) {
        return exclusive(item);
    }

    @Test
    void aSourceThatSendsMoreThanAsked_isAnError() {
        TestPublisher<Integer> wild = TestPublisher.createNoncompliant(TestPublisher.Violation.REQUEST_OVERFLOW);
        Taker taker = taker(stream(wild, 1), 1);
        wild.next(10, 20, 30, 40, 50);
        assertThat(taker.error).hasMessageContaining("more than was asked for");
        assertThat(taker.ends).hasValue(1);
    }

    @Test
    void badRequest_isAnError() {
        for (long n : new long[] {0, -1, Long.MIN_VALUE}) {
            Taker taker = new Taker();
            stream(Flux.just(10), 1).subscribe(new reactor.core.CoreSubscriber<>() {
                @Override
                public void onSubscribe(org.reactivestreams.Subscription subscription) {
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
        StepVerifier.create(stream(Flux.empty(), 1)).verifyComplete();
        StepVerifier.create(stream(Flux.error(new IllegalStateException("source")), 1))
                .verifyErrorMessage("source");
    }

    @Test
    void errorOfTheSource_cancelsWhatRuns() {
        TestPublisher<Integer> source = TestPublisher.create();
        Taker taker = taker(stream(source, 4), Long.MAX_VALUE);
        source.next(10, 11, 20);
        source.error(new IllegalStateException("source"));
        assertThat(taker.error).hasMessage("source");
        assertThat(works.get(10).currentSubscriberCount()).isZero();
        assertThat(works.get(20).currentSubscriberCount()).isZero();
    }

    @Test
    void errorOfAWork_endsIt_andTheNextOfItsKeyNeverBegins() {
        TestPublisher<Integer> source = TestPublisher.create();
        List<Object> discarded = new CopyOnWriteArrayList<>();
        Taker taker = taker(stream(source, 4).doOnDiscard(Object.class, discarded::add), Long.MAX_VALUE);
        source.next(10, 11, 12, 20);
        IllegalStateException error = new IllegalStateException("work");
        fail(10, error);
        assertThat(taker.error).isSameAs(error);
        source.assertWasCancelled();
        client.assertRest();
        assertThat(begun).containsExactly(10, 20);
        assertThat(discarded).containsExactlyInAnyOrder(11, 12);
        assertThat(works.get(20).currentSubscriberCount()).isZero();
    }

    @Test
    void errorsOfTheFunctions_areToldByTheStream() {
        IllegalStateException error = new IllegalStateException("function");
        StepVerifier.create(client.locks.<Integer, Integer>flatMapLocked(
                        Flux.just(1),
                        item -> {
                            throw error;
                        },
                        Mono::just,
                        1))
                .verifyErrorMessage("function");
        StepVerifier.create(client.locks.<Integer, Integer>flatMapLocked(
                        Flux.just(1),
                        this::own,
                        item -> {
                            throw error;
                        },
                        1))
                .verifyErrorMessage("function");
        StepVerifier.create(client.locks.<Integer, Integer>flatMapLocked(Flux.just(1), this::own, none(), 1))
                .expectErrorMessage("work returned null")
                .verify();
        for (LockRequest bad : new ArrayList<>(java.util.Arrays.asList(none().apply(1), foreign()))) {
            StepVerifier.create(client.locks.flatMapLocked(Flux.just(1), item -> bad, Mono::just, 1))
                    .verifyErrorSatisfies(told -> assertThat(told)
                            .isInstanceOf(IllegalArgumentException.class)
                            .hasMessageContaining("lockOf must return a request of the client")
                            .hasMessageContaining("was " + bad));
        }
        StepVerifier.create(client.locks.flatMapLocked(
                        Flux.just(1),
                        item -> client.locks.exclusive(LockKey.of(1)).holdAtLeast(Duration.ofSeconds(1)),
                        Mono::just,
                        1))
                .verifyErrorSatisfies(told -> assertThat(told).hasMessageContaining("holdAtLeast"));
    }

    @SuppressWarnings("NullAway") // null is what a user may return
    private static <T> Function<Integer, T> none() {
        return item -> null;
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
        AdvisoryLocks locks = client.locks;
        Flux<Integer> source = Flux.just(1);
        assertThatThrownBy(() -> locks.flatMapLocked(null, byTens, Mono::just, 1))
                .hasMessage("source must not be null");
        assertThatThrownBy(() -> locks.flatMapLocked(source, null, Mono::just, 1))
                .hasMessage("lockOf must not be null");
        assertThatThrownBy(() -> locks.flatMapLocked(source, byTens, null, 1)).hasMessage("work must not be null");
        for (int bad : new int[] {0, -1, 65_537}) {
            assertThatThrownBy(() -> locks.flatMapLocked(source, byTens, Mono::just, bad))
                    .isInstanceOf(IllegalArgumentException.class)
                    .hasMessage("concurrency must be from 1 to 65536, was " + bad);
        }
    }

    @Test
    void contextOfTheSubscriber_isThatOfSourceFunctionsAndWorks() {
        Flux<Integer> source = Flux.deferContextual(context -> Flux.just((int) context.get("item")));
        StepVerifier.create(client.locks
                        .flatMapLocked(
                                source,
                                this::own,
                                item -> Mono.deferContextual(context -> Mono.just(item + (int) context.get("item"))),
                                1)
                        .contextWrite(context -> context.put("item", 7)))
                .expectNext(14)
                .verifyComplete();
    }

    @Test
    void aClosedClient_isAnError_andWhatRunsMayEndFirst() {
        Taker taker = taker(stream(Flux.just(10, 11), 4), Long.MAX_VALUE);
        Mono<Void> closed = client.locks.close().cache();
        closed.subscribe();
        assertThat(taker.ends).as("the one that is queued has its error").hasValue(0);
        finish(10);
        FakeClient.until("the end", () -> taker.ends.get() == 1);
        assertThat(taker.error).isInstanceOf(LocksClosedException.class);
        assertThat(begun).containsExactly(10);
        assertThat(taker.taken).containsExactly(10);
    }

    @Test
    void whatASubscriberThrows_leavesNothingHeld() {
        residue.allowDroppedErrors();
        TestPublisher<Integer> source = TestPublisher.create();
        stream(source, 4).subscribe(new reactor.core.CoreSubscriber<>() {
            @Override
            public void onSubscribe(org.reactivestreams.Subscription subscription) {
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
        finish(10);
        source.assertWasCancelled();
        client.assertRest();
    }

    @Test
    void thousandsOfItems_thatEndAtOnce_needNoStack() {
        int items = 30_000;
        for (Function<Integer, LockRequest> keys :
                List.<Function<Integer, LockRequest>>of(item -> exclusive(1), this::own, item -> exclusive(item % 3))) {
            List<Integer> taken = client.locks
                    .flatMapLocked(Flux.range(0, items), keys, Mono::just, 4)
                    .collectList()
                    .block(Duration.ofSeconds(60));
            assertThat(taken).hasSize(items);
            client.newest().messages.clear();
        }
    }

    @Test
    void cancel_againstErrorAndCompletion() {
        for (int i = 0; i < ROUNDS; i++) {
            works.clear();
            Taker taker = taker(stream(Flux.just(10, 11, 12, 20), 4), Long.MAX_VALUE);
            Runnable end = i % 4 < 2 ? () -> finish(10) : () -> fail(10, new IllegalStateException("work"));
            if (i % 2 == 0) {
                RaceTestUtils.race(taker::cancel, end);
            } else {
                RaceTestUtils.race(end, taker::cancel);
            }
            assertThat(taker.taken.size() + taker.ends.get()).isLessThanOrEqualTo(1);
            client.assertRest();
        }
    }

    @Test
    void errorOfOneKey_againstTheEndOfAnother() {
        for (int i = 0; i < ROUNDS; i++) {
            works.clear();
            begun.clear();
            Taker taker = taker(stream(Flux.just(10, 11, 20, 21), 4), Long.MAX_VALUE);
            RaceTestUtils.race(() -> fail(10, new IllegalStateException("work")), () -> finish(20));
            FakeClient.until("the end", () -> taker.ends.get() == 1);
            assertThat(taker.error).hasMessage("work");
            client.assertRest();
            assertThat(begun).doesNotContain(11);
            assertThat(taker.overlaps).hasValue(0);
        }
    }

    @Test
    void twoEnds_andARequest_atOnce() {
        for (int i = 0; i < ROUNDS; i++) {
            works.clear();
            Taker taker = taker(stream(Flux.just(10, 20), 4), 0);
            RaceTestUtils.race(() -> finish(10), () -> finish(20), () -> taker.request(1), () -> taker.request(1));
            FakeClient.until("the end", () -> taker.ends.get() == 1);
            assertThat(taker.taken).containsExactlyInAnyOrder(10, 20);
            assertThat(taker.overlaps).hasValue(0);
        }
    }
}

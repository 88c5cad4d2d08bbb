package io.r2lock;

import static org.assertj.core.api.Assertions.assertThat;

import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.Function;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.extension.RegisterExtension;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;
import reactor.test.StepVerifier;
import reactor.test.publisher.TestPublisher;
import reactor.test.util.RaceTestUtils;

/** Which item of {@code flatMapLocked} runs when, and what the source is asked for; on a server that answers at once. */
@Timeout(120)
class KeyedOrderTest {

    private static final int ROUNDS = 3_000;

    @RegisterExtension
    final NoResidue residue = NoResidue.on();

    private final KeyedCalls calls = new KeyedCalls();

    @AfterEach
    void close() {
        calls.close();
    }

    @Test
    void itemsOfOneKey_runInTheirOrder_othersSideBySide() {
        KeyedTaker taker = KeyedCalls.taker(calls.stream(Flux.just(10, 11, 12, 20, 30), 8), Long.MAX_VALUE);
        calls.assertBegun(10, 20, 30);
        calls.finish(30);
        calls.finish(10);
        calls.assertBegun(10, 20, 30, 11);
        calls.finish(20);
        calls.finish(11);
        calls.finish(12);
        FakeClient.until("the end", () -> taker.ends.get() == 1);
        assertThat(taker.taken).containsExactly(30, 10, 20, 11, 12);
    }

    @Test
    void theNextOfAKey_hasTheLockWithoutTheServer() {
        FakeSession server = calls.client.newest();
        KeyedTaker taker = KeyedCalls.taker(calls.stream(Flux.just(10, 11, 12, 13), 8), Long.MAX_VALUE);
        int before = server.messages.size();
        for (int item : new int[] {10, 11, 12}) {
            calls.awaitBegun(item - 9);
            calls.finish(item);
        }
        FakeClient.until("the turn of the last", () -> calls.begun.contains(13));
        assertThat(server.messages).hasSize(before);
        calls.finish(13);
        FakeClient.until("the end", () -> taker.ends.get() == 1);
    }

    @Test
    void requestsThatDoNotWaitForEver_doNotQueueBehindTheirOwn() {
        List<Function<LockRequest, LockRequest>> impatient = List.of(
                LockRequest::noWait, LockRequest::skipIfBusy, request -> request.waitAtMost(Duration.ofNanos(1)));
        for (Function<LockRequest, LockRequest> how : impatient) {
            calls.works.clear();
            KeyedTaker taker = KeyedCalls.taker(
                    calls.client.locks.flatMapLocked(
                            Flux.just(10, 11), item -> how.apply(calls.exclusive(1)), calls::work, 8),
                    Long.MAX_VALUE);
            calls.client.clock.advanceTimeBy(Duration.ofSeconds(1));
            calls.finish(10);
            calls.finish(11);
            FakeClient.until("the end", () -> taker.ends.get() == 1);
            assertThat(taker.taken).containsExactly(10, 11);
        }
    }

    @Test
    void skippedItem_emitsNothing() {
        calls.client.newest().busy(LockKey.of(1));
        StepVerifier.create(calls.client.locks.flatMapLocked(
                        Flux.just(10, 20), item -> calls.exclusive(item / 10).skipIfBusy(), Mono::just, 8))
                .expectNext(20)
                .verifyComplete();
    }

    @Test
    void itemOfSeveralKeys_waitsForAllEarlierOnes_andTheLaterOnesForIt() {
        Map<Integer, LockRequest> requests = Map.of(
                1,
                calls.exclusive(1),
                2,
                calls.exclusive(2),
                3,
                calls.exclusive(1, 2, 3),
                4,
                calls.exclusive(3),
                5,
                calls.exclusive(2, 1),
                6,
                calls.exclusive(6));
        KeyedTaker taker = KeyedCalls.taker(
                calls.client.locks.flatMapLocked(Flux.range(1, 6), requests::get, calls::work, 8), Long.MAX_VALUE);
        calls.assertBegun(1, 2, 6);
        calls.finish(2);
        calls.assertBegun(1, 2, 6);
        calls.finish(1);
        calls.assertBegun(1, 2, 6, 3);
        calls.finish(3);
        calls.assertBegun(1, 2, 6, 3, 4, 5);
        calls.finish(4);
        calls.finish(5);
        calls.finish(6);
        FakeClient.until("the end", () -> taker.ends.get() == 1);
        assertThat(taker.taken).containsExactly(2, 1, 3, 4, 5, 6);
    }

    /** A permit and a lock of one key, or a reader behind another, would both go in. */
    @Test
    void whatDoesNotExcludeEachOtherAtTheServer_runsInOrderAllTheSame() {
        LockKey key = LockKey.of(1);
        Map<Integer, LockRequest> requests = Map.of(
                1,
                calls.exclusive(1),
                2,
                calls.client.locks.permit(key, 3),
                3,
                calls.client.locks.permit(key, 3),
                4,
                calls.client.locks.shared(key).inSession(),
                5,
                calls.client.locks.shared(key).inSession());
        KeyedTaker taker = KeyedCalls.taker(
                calls.client.locks.flatMapLocked(Flux.range(1, 5), requests::get, calls::work, 8), Long.MAX_VALUE);
        for (int item = 1; item <= 5; item++) {
            calls.awaitBegun(item);
            calls.finish(item);
        }
        FakeClient.until("the end", () -> taker.ends.get() == 1);
        assertThat(taker.taken).containsExactly(1, 2, 3, 4, 5);
    }

    @Test
    void atMostConcurrencyRun_andWaitersForAKeyTakeNoPlace() {
        KeyedTaker taker = KeyedCalls.taker(calls.stream(Flux.just(10, 11, 12, 13, 20, 30), 2), Long.MAX_VALUE);
        calls.assertBegun(10, 20);
        calls.finish(20);
        calls.assertBegun(10, 20, 30);
        for (int item : new int[] {10, 11, 12, 13, 30}) {
            calls.finish(item);
        }
        FakeClient.until("the end", () -> taker.ends.get() == 1);
    }

    /** Else a key that always has one more would keep its place for ever. */
    @Test
    void aKeyWithManyItems_doesNotKeepThePlaceWhileOthersWait() {
        KeyedTaker taker = KeyedCalls.taker(calls.stream(Flux.just(10, 11, 20, 12), 1), Long.MAX_VALUE);
        calls.finish(10);
        calls.finish(20);
        calls.finish(11);
        calls.finish(12);
        FakeClient.until("the end", () -> taker.ends.get() == 1);
        assertThat(calls.begun.indexOf(20)).isLessThan(calls.begun.indexOf(12));
    }

    @Test
    void theSourceIsAskedForTheWindow_andForMoreOnlyWhenValuesAreTaken() {
        TestPublisher<Integer> source = TestPublisher.create();
        AtomicInteger asked = new AtomicInteger();
        Flux<Integer> counted = source.flux().doOnRequest(n -> asked.addAndGet((int) n));
        KeyedTaker taker = KeyedCalls.taker(calls.client.locks.flatMapLocked(counted, calls.byTens, Mono::just, 2), 0);
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
        KeyedTaker taker = KeyedCalls.taker(
                calls.client.locks.flatMapLocked(
                        source, calls::own, item -> item < 9 ? Flux.empty() : Flux.just(1, 2, 3), 1),
                0);
        assertThat(asked).hasValue(12);
        taker.request(2);
        assertThat(asked).hasValue(12);
        taker.request(1);
        assertThat(asked).hasValue(13);
        assertThat(taker.taken).containsExactly(1, 2, 3);
        taker.cancel();
    }

    @Test
    void thousandsOfItems_thatEndAtOnce_needNoStack() {
        int items = 10_000;
        for (Function<Integer, LockRequest> keys : List.<Function<Integer, LockRequest>>of(
                item -> calls.exclusive(1), calls::own, item -> calls.exclusive(item % 3))) {
            List<Integer> taken = calls.client
                    .locks
                    .flatMapLocked(Flux.range(0, items), keys, Mono::just, 4)
                    .collectList()
                    .block(Duration.ofSeconds(60));
            assertThat(taken).hasSize(items);
            calls.client.newest().messages.clear();
        }
    }

    @Test
    void twoEnds_andARequest_atOnce() {
        for (int i = 0; i < ROUNDS; i++) {
            calls.works.clear();
            KeyedTaker taker = KeyedCalls.taker(calls.stream(Flux.just(10, 20), 4), 0);
            RaceTestUtils.race(
                    () -> calls.finish(10), () -> calls.finish(20), () -> taker.request(1), () -> taker.request(1));
            FakeClient.until("the end", () -> taker.ends.get() == 1);
            assertThat(taker.taken).containsExactlyInAnyOrder(10, 20);
            assertThat(taker.overlaps).hasValue(0);
        }
    }
}

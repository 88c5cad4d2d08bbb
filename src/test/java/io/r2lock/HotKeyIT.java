package io.r2lock;

import static io.r2lock.TestClients.PATIENCE;
import static org.assertj.core.api.Assertions.assertThat;

import java.time.Duration;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.IntFunction;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import reactor.core.Disposable;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;

/** One key that callers of several processes want all the time: nobody is kept out for long. Clients stand for processes. */
class HotKeyIT {

    private static final Logger LOG = LoggerFactory.getLogger(HotKeyIT.class);

    private static final LockKey KEY = LockKey.of(41_001);
    private static final int LIMIT = 16;

    private final TestServer server = TestServer.newest();
    private final Sessions sessions = new Sessions(server);

    @RegisterExtension
    @Order(2)
    final NoResidue residue = NoResidue.on(server);

    @RegisterExtension
    @Order(1)
    final TestClients clients = new TestClients(residue);

    @AfterEach
    void closeSessions() {
        sessions.close();
    }

    private DefaultAdvisoryLocks client() {
        return clients.open(server, builder -> builder.handOffLimit(LIMIT));
    }

    /** Callers that come again as soon as they were served. */
    private static Disposable callers(int count, Mono<?> call) {
        return Flux.range(0, count).flatMap(i -> call.repeat().then(), count).subscribe();
    }

    /** Is not cancelled in the middle of a statement. */
    private Mono<Void> otherWaits() {
        return Mono.fromFuture(() -> CompletableFuture.supplyAsync(sessions::waiting), true)
                .repeat()
                .takeUntil(waiting -> waiting > 0)
                .then();
    }

    private void takeTurns(Mono<Void> firstInARow, TurnCount turns, int each) {
        List<Disposable> running = IntStream.range(0, 2)
                .mapToObj(i -> callers(
                        300, client().exclusive(KEY).inSession().guard(turns.work(i, firstInARow, Mono.empty()))))
                .toList();
        Await.until("many turns", () -> turns.holds(0) > each && turns.holds(1) > each);
        running.forEach(Disposable::dispose);
        LOG.info("Two clients with 300 callers each and a hand-off limit of {}: {}", LIMIT, turns);
    }

    /** The first in a row goes on once the other client waits on the server: from then on it is that one's turn next. */
    @Test
    void twoClientsWithHundredsOfWaiters_takeTurns() {
        TurnCount turns = new TurnCount(2);
        takeTurns(otherWaits(), turns, 20 * LIMIT);
        // the one who was granted the lock, and as many as took it over
        assertThat(List.of(turns.longest(0), turns.longest(1))).as("%s", turns).allMatch(run -> run <= LIMIT + 1);
    }

    /** Holds so short that a run of them may be over before the other client waits on the server. */
    @Test
    void twoClientsWithTinyHolds_bothGoOn() {
        takeTurns(Mono.empty(), new TurnCount(2), 100 * LIMIT);
    }

    /** Readers that overlap: there is no instant at which none of them holds the lock. */
    private static Disposable readers(IntFunction<LockRequest> requests, AtomicInteger holds) {
        return Flux.range(0, 20)
                .flatMap(
                        i -> requests.apply(i)
                                .inSession()
                                .guard(Mono.delay(Duration.ofMillis(20)).doOnNext(tick -> holds.incrementAndGet()))
                                .delaySubscription(Duration.ofMillis(i))
                                .repeat()
                                .then(),
                        20)
                .subscribe();
    }

    @Test
    void overlappingReaders_letAWriterElsewhereIn() {
        DefaultAdvisoryLocks readers = client();
        DefaultAdvisoryLocks writer = client();
        Disposable busy = readers(i -> readers.shared(KEY), new AtomicInteger());
        Await.until("readers", () -> sessions.held() == 1);
        for (int i = 0; i < 3; i++) {
            assertThat(writer.exclusive(KEY).inSession().guard(Mono.just(i)).toFuture())
                    .succeedsWithin(PATIENCE)
                    .isEqualTo(i);
        }
        assertThat(writer.withAdvisoryLock(KEY, Mono.just(1)).toFuture()).succeedsWithin(PATIENCE);
        busy.dispose();
    }

    /** Each of them is inside the key's gate before it tries for both, and joins there. */
    @Test
    void overlappingReadersOfSeveralKeys_letAWriterElsewhereIn() {
        DefaultAdvisoryLocks readers = client();
        DefaultAdvisoryLocks writer = client();
        AtomicInteger holds = new AtomicInteger();
        Disposable busy = readers(i -> readers.shared(KEY, LockKey.of(41_100 + i)), holds);
        Await.until("readers", () -> sessions.held() > 2);
        for (int i = 0; i < 3; i++) {
            int before = holds.get();
            assertThat(writer.exclusive(KEY).inSession().guard(Mono.just(i)).toFuture())
                    .succeedsWithin(PATIENCE)
                    .isEqualTo(i);
            LOG.info("A writer was served after {} holds of readers", holds.get() - before);
        }
        busy.dispose();
    }

    @Test
    void whoPolls_hasItsTurn_amongTinyHolds() {
        poll(Mono.empty());
    }

    @Test
    void whoPolls_hasItsTurn_amongHoldsOfSomeTime() {
        poll(Mono.delay(Duration.ofMillis(5)));
    }

    private void poll(Mono<?> work) {
        DefaultAdvisoryLocks hot = client();
        DefaultAdvisoryLocks polling = client();
        TurnCount turns = new TurnCount(2);
        Disposable busy = callers(100, hot.exclusive(KEY).inSession().guard(turns.work(0, work)));
        Await.until("holds", () -> turns.holds(0) > 0);
        Mono<Void> polls = polling.exclusive(KEY).polling().inSession().guard(turns.work(1, Mono.empty()));
        assertThat(polls.toFuture()).succeedsWithin(Duration.ofSeconds(60));
        LOG.info("Who polls, with a hand-off limit of {}: {}", LIMIT, turns);
        busy.dispose();
    }
}

package io.r2lock;

import static io.r2lock.TestClients.PATIENCE;
import static org.assertj.core.api.Assertions.assertThat;

import java.time.Duration;
import java.util.List;
import java.util.Objects;
import java.util.Queue;
import java.util.concurrent.ConcurrentLinkedQueue;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import reactor.core.Disposable;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;
import reactor.core.scheduler.Scheduler;
import reactor.core.scheduler.Schedulers;

/** Leader election as the README shows it, and what else of it takes a real server but no other process. */
class LeaderRecipeIT {

    private final TestServer server = TestServer.newest();

    @RegisterExtension
    @Order(2)
    final NoResidue residue = NoResidue.on(server);

    @RegisterExtension
    @Order(1)
    final TestClients clients = new TestClients(residue);

    private final Duration often = Duration.ofMillis(10);
    private final Queue<Long> sent = new ConcurrentLinkedQueue<>();

    private Mono<Void> sendInvoices(FencingToken term) {
        return Mono.fromRunnable(() -> sent.add(term.asLong()));
    }

    private Disposable campaign(AdvisoryLocks locks, Queue<String> log) {
        // region leadership
        LeaderElection election = locks.leaderElection(LockKey.named("leader", "billing"));

        election.events().subscribe(event -> log.add(event.kind() + " for " + event.term()));

        Disposable candidate = election.lead(leadership ->
                        Flux.interval(often).onBackpressureDrop().concatMap(tick -> sendInvoices(leadership.term())))
                .subscribe();
        // when this instance ends: candidate.dispose() cancels the work, then frees the lock for the next
        // endregion
        return candidate;
    }

    @Test
    void oneOfTwoInstancesWorks_andTheOtherTakesOver() {
        Queue<String> firstLog = new ConcurrentLinkedQueue<>();
        Queue<String> otherLog = new ConcurrentLinkedQueue<>();
        Disposable first = campaign(clients.open(server), firstLog);
        Await.until("invoices", () -> sent.size() > 2);
        long term = Objects.requireNonNull(sent.peek());
        Disposable other = campaign(clients.open(server), otherLog);
        Await.until(
                "the other one waits",
                () -> server.count("select count(*) from pg_locks where locktype = 'advisory' and not granted") == 1);
        assertThat(sent).containsOnly(term);
        first.dispose();
        Await.until("the other one's invoices", () -> sent.stream().anyMatch(token -> token > term));
        other.dispose();
        long next = sent.stream().filter(token -> token > term).findFirst().orElseThrow();
        List<Long> later = sent.stream().dropWhile(token -> token == term).toList();
        assertThat(later).containsOnly(next);
        Await.until("events", () -> firstLog.size() == 2 && otherLog.size() == 2);
        assertThat(firstLog).containsExactly("ELECTED for fencing token " + term, "RESIGNED for fencing token " + term);
        assertThat(otherLog).containsExactly("ELECTED for fencing token " + next, "RESIGNED for fencing token " + next);
    }

    @Test
    void aLongTermIsNoLongHold_andItsWorkRunsWhereItIsToldTo() {
        Scheduler scheduler = Schedulers.newSingle("leading");
        DefaultAdvisoryLocks locks = clients.open(
                server, builder -> builder.holdWarning(Duration.ofMillis(100)).workScheduler(scheduler));
        // it would be logged after a second or two, and no test may cause that
        String thread = locks.leaderElection(LockKey.of(31_002))
                .lead(leadership -> {
                    String name = Thread.currentThread().getName();
                    return Mono.delay(Duration.ofMillis(2_500)).thenReturn(name);
                })
                .blockLast(PATIENCE);
        assertThat(thread).startsWith("leading");
        scheduler.dispose();
    }

    @Test
    void candidatesOfOneClient_andTheWorkUsesItsLock() {
        DefaultAdvisoryLocks locks = clients.open(server);
        LockKey key = LockKey.of(31_003);
        LeaderElection election = locks.leaderElection(key);
        // inside the term, the same key is the leader's own
        List<Long> terms = Flux.range(0, 10)
                .flatMap(i -> election.lead(leadership -> locks.exclusive(key)
                        .inSession()
                        .waitAtMost(PATIENCE)
                        .guard(Mono.just(leadership.term().asLong()))))
                .collectList()
                .block(PATIENCE);
        assertThat(terms).hasSize(10).isSorted().doesNotHaveDuplicates();
    }
}

package io.r2lock;

import static org.assertj.core.api.Assertions.assertThat;

import io.r2dbc.postgresql.api.PostgresqlConnection;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.stream.IntStream;
import reactor.core.publisher.Mono;
import reactor.core.scheduler.Scheduler;

/** Session scope's waits for keys that another process holds, bare SQL that is, and their cancels. */
final class StormWaits {

    private final Storm storm;
    private final Scheduler canceller;
    private final DefaultAdvisoryLocks client;
    private final Sessions sessions;

    StormWaits(Storm storm, Scheduler canceller, DefaultAdvisoryLocks client, Sessions sessions) {
        this.storm = storm;
        this.canceller = canceller;
        this.client = client;
        this.sessions = sessions;
    }

    private PostgresqlConnection foreign(int first, int count) {
        PostgresqlConnection foreign = sessions.open();
        Sessions.run(
                foreign,
                "select pg_advisory_lock(n) from generate_series(" + first + ", " + (first + count - 1) + ") n");
        return foreign;
    }

    /** Keys that are held elsewhere, tried again and again. */
    void polling(int calls) {
        storm.scenario(phase -> phase.equals("PAUSING") ? SessionStormIT.Met.POLLING.name() : "polling: " + phase);
        PostgresqlConnection foreign = foreign(50_000, calls);
        for (int i = 0; i < calls; i++) {
            LockKey key = LockKey.of(50_000 + i);
            // some live long enough to try again
            storm.call(self -> client.exclusive(key).inSession().polling().guard(Mono.just(1)))
                    .cancelWithin(i % 4 == 0 ? 20_000 : 2_000);
        }
        storm.awaitAll();
        Sessions.run(foreign, "select pg_advisory_unlock_all()");
        Await.until("undone", () -> client.live() == 0);
        SessionStormIT.free(client, 50_000, calls);
    }

    private List<StormCall> waiters(int first) {
        List<StormCall> calls = IntStream.range(0, SessionStormIT.WAITERS)
                .mapToObj(n -> storm.call(self ->
                        client.exclusive(LockKey.of(first + n)).inSession().guard(Mono.just(1))))
                .toList();
        sessions.awaitWaiting(SessionStormIT.WAITERS);
        return calls;
    }

    /** Keys that are held elsewhere; the cancel's time runs from when the server shows all of them waiting. */
    void waitingOnServer(int rounds) {
        storm.scenario(
                phase -> phase.equals("LOCKING") ? SessionStormIT.Met.WAITING_ON_SERVER.name() : "held keys: " + phase);
        PostgresqlConnection foreign = foreign(60_000, SessionStormIT.WAITERS);
        for (int round = 0; round < rounds; round++) {
            waiters(60_000).forEach(StormCall::cancelSoon);
            storm.awaitAll();
            // or the next round would take this one's waiters for its own
            Await.until("undone", () -> client.live() == 0);
        }
        Sessions.run(foreign, "select pg_advisory_unlock_all()");
        SessionStormIT.free(client, 60_000, SessionStormIT.WAITERS);
    }

    /** The key is unlocked by bare SQL within 1 ms of the cancel: then a wait that was cancelled may hold the lock all the same. */
    void unlockedElsewhere(int rounds) {
        storm.scenario(
                phase -> phase.equals("LOCKING") ? SessionStormIT.Met.UNLOCKED_ELSEWHERE.name() : "unlocked: " + phase);
        List<PostgresqlConnection> foreign = IntStream.range(0, SessionStormIT.WAITERS)
                .mapToObj(n -> foreign(70_000 + n, 1))
                .toList();
        for (int round = 0; round < rounds; round++) {
            List<StormCall> calls = waiters(70_000);
            List<Mono<Void>> unlocks = new ArrayList<>();
            for (int n = 0; n < SessionStormIT.WAITERS; n++) {
                Mono<Void> unlock = Sessions.send(foreign.get(n), "select pg_advisory_unlock(" + (70_000 + n) + ")")
                        .delaySubscription(
                                Duration.ofNanos(ThreadLocalRandom.current().nextLong(2_000_000)), canceller)
                        .cache();
                unlock.subscribe();
                unlocks.add(unlock);
                canceller.schedule(calls.get(n)::cancel, 1_000, TimeUnit.MICROSECONDS);
            }
            Mono.when(unlocks).block(SessionStormIT.SOON);
            storm.awaitAll();
            Await.until("undone", () -> client.live() == 0);
            // nobody has it, and nobody else is in its way
            for (int n = 0; n < SessionStormIT.WAITERS; n++) {
                assertThat(Sessions.ask(foreign.get(n), "select pg_try_advisory_lock(" + (70_000 + n) + ")"))
                        .as("round " + round)
                        .containsExactly("true");
            }
        }
        foreign.forEach(session -> Sessions.run(session, "select pg_advisory_unlock_all()"));
        SessionStormIT.free(client, 70_000, SessionStormIT.WAITERS);
    }
}

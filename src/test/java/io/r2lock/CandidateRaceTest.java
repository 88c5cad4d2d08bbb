package io.r2lock;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.time.Duration;
import java.util.EnumMap;
import java.util.Map;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.slf4j.event.Level;
import reactor.core.publisher.Sinks;
import reactor.test.util.RaceTestUtils;

/** Two things happen to a candidate at once: one of them decides, each term has one end, and nothing is left. */
class CandidateRaceTest {

    private static final int ROUNDS = Boolean.getBoolean("long") ? 10_000 : 2_000;
    private static final long SPIN_NANOS = 10_000;
    private static final Duration LONGEST_REST = Duration.ofMillis(750);

    @RegisterExtension
    final NoResidue residue = NoResidue.on();

    private final FakeClient client = new FakeClient();

    /** What came of it, so that a race that was none can be seen. */
    private final Map<LeadershipEvent.Kind, Integer> ends = new EnumMap<>(LeadershipEvent.Kind.class);

    @BeforeEach
    void lossesAreLogged() {
        residue.allowLog(Level.WARN, "io.r2lock");
    }

    @AfterEach
    void close() {
        client.close();
    }

    /** Half of the rounds at once, and in the others each of the two a little later than the other: both must win at times. */
    private static void race(int round, Runnable one, Runnable other) {
        int lag = Math.max(0, round / 4 % 64 - 32);
        Runnable late = () -> spin(lag);
        switch (round % 4) {
            case 0 -> RaceTestUtils.race(one, after(late, other));
            case 1 -> RaceTestUtils.race(after(late, one), other);
            case 2 -> RaceTestUtils.race(after(late, other), one);
            default -> RaceTestUtils.race(other, after(late, one));
        }
    }

    private static Runnable after(Runnable late, Runnable then) {
        return () -> {
            late.run();
            then.run();
        };
    }

    private static void spin(int units) {
        long until = System.nanoTime() + units * SPIN_NANOS;
        while (System.nanoTime() < until) {
            Thread.onSpinWait();
        }
    }

    private void loss() {
        client.newest().breaks(new IOException("gone"));
    }

    private void assertOver(Elections elections, Elections.Idle idle) {
        client.assertRest();
        FakeClient.until(
                "an end of each term: " + elections.told, () -> Elections.isWellFormed(elections.told.stream()));
        assertThat(idle.cancelled).hasValue(idle.begun.get());
        assertThat(idle.error.get()).isNull();
        elections.kinds().forEach(kind -> ends.merge(kind, 1, Integer::sum));
    }

    @Test
    void resign_againstLoss() {
        for (int i = 0; i < ROUNDS; i++) {
            Elections elections = new Elections(client);
            Elections.Idle idle = elections.new Idle();
            idle.assertIsLeader(1);
            Leadership leadership = idle.leadership();
            Sinks.Empty<Void> resigned = Sinks.empty();
            race(
                    i,
                    () -> leadership.resign().subscribe(n -> {}, resigned::tryEmitError, resigned::tryEmitEmpty),
                    this::loss);
            resigned.asMono().block(Duration.ofSeconds(10));
            FakeClient.until("the end", () -> elections.told.size() == 2);
            assertThat(idle.cancelled).hasValue(1);
            FakeClient.until("another term", () -> {
                client.clock.advanceTimeBy(LONGEST_REST);
                return idle.begun.get() == 2;
            });
            idle.call.dispose();
            assertOver(elections, idle);
        }
        assertThat(ends.getOrDefault(LeadershipEvent.Kind.LOST, 0)).isBetween(1, ROUNDS - 1);
    }

    @Test
    void endOfTheWork_againstLoss() {
        int again = 0;
        for (int i = 0; i < ROUNDS; i++) {
            Elections elections = new Elections(client);
            Sinks.Many<Integer> work = Sinks.many().multicast().directBestEffort();
            Sinks.Empty<Void> over = Sinks.empty();
            boolean fails = i % 8 < 4;
            IllegalStateException failure = new IllegalStateException("work");
            var call = elections
                    .lead(leadership -> work.asFlux())
                    .subscribe(
                            item -> {},
                            error -> over.tryEmitError(error == failure ? failure : new AssertionError(error)),
                            over::tryEmitEmpty);
            FakeClient.until("work", () -> work.currentSubscriberCount() == 1);
            race(
                    i,
                    () -> {
                        if (fails) {
                            work.tryEmitError(failure);
                        } else {
                            work.tryEmitComplete();
                        }
                    },
                    this::loss);
            FakeClient.until("the end", () -> elections.told.size() == 2);
            FakeClient.until("the end of the candidate", () -> {
                client.clock.advanceTimeBy(LONGEST_REST);
                return call.isDisposed();
            });
            // a work that is over ends its next term at once: either way the candidate ends, as the work did
            Throwable told = over.asMono()
                    .cast(Throwable.class)
                    .onErrorResume(reactor.core.publisher.Mono::just)
                    .block(Duration.ofSeconds(10));
            assertThat(told).isSameAs(fails ? failure : null);
            again += elections.told.size() > 2 ? 1 : 0;
            FakeClient.until("an end of each term", () -> Elections.isWellFormed(elections.told.stream()));
            client.assertRest();
        }
        assertThat(again).isBetween(1, ROUNDS - 1);
    }

    @Test
    void cancel_againstGrant() {
        int begun = 0;
        for (int i = 0; i < ROUNDS; i++) {
            Elections elections = new Elections(client);
            FakeSession session = client.open();
            session.answersAtOnce(false);
            Elections.Idle idle = elections.new Idle();
            FakeClient.until("the try", () -> session.inFlight() == 1);
            race(i, session::answerAll, idle.call::dispose);
            session.answersAtOnce(true).answerAll();
            assertOver(elections, idle);
            begun += idle.begun.get();
        }
        assertThat(begun).isBetween(1, ROUNDS - 1);
    }

    @Test
    void cancel_againstResign_andAgainstLoss() {
        for (int i = 0; i < ROUNDS; i++) {
            Elections elections = new Elections(client);
            Elections.Idle idle = elections.new Idle();
            idle.assertIsLeader(1);
            Leadership leadership = idle.leadership();
            Runnable other = i % 8 < 4 ? this::loss : () -> leadership.resign().subscribe();
            race(i, idle.call::dispose, other);
            client.clock.advanceTimeBy(LONGEST_REST);
            assertOver(elections, idle);
            assertThat(idle.begun).hasValue(1);
        }
        assertThat(ends).containsOnlyKeys(LeadershipEvent.Kind.values());
    }

    @Test
    void cancel_againstTheEndOfTheRest() {
        int again = 0;
        for (int i = 0; i < ROUNDS; i++) {
            Elections elections = new Elections(client);
            Elections.Idle idle = elections.new Idle();
            idle.assertIsLeader(1);
            idle.leadership().resign().block(Duration.ofSeconds(10));
            race(i, () -> client.clock.advanceTimeBy(LONGEST_REST), idle.call::dispose);
            assertOver(elections, idle);
            again += idle.begun.get() - 1;
        }
        assertThat(again).isBetween(1, ROUNDS - 1);
    }
}

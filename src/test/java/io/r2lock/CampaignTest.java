package io.r2lock;

import static io.r2lock.LeadershipEvent.Kind.ELECTED;
import static io.r2lock.LeadershipEvent.Kind.LOST;
import static io.r2lock.LeadershipEvent.Kind.RESIGNED;
import static org.assertj.core.api.Assertions.assertThat;

import io.r2lock.AdvisoryLockException.LockAttempt;
import java.io.IOException;
import java.time.Duration;
import java.util.List;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.slf4j.event.Level;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;
import reactor.test.StepVerifier;

/** A candidate that does not lead, in a time that stands still: what it waits for, what it puts up with, and what ends it. */
class CampaignTest {

    private static final LockAttempt ASKED =
            new LockAttempt(List.of(FakeClient.KEY), LockMode.EXCLUSIVE, Duration.ZERO);

    @RegisterExtension
    final NoResidue residue = NoResidue.on();

    private final FakeClient client = new FakeClient();
    private final Elections elections = new Elections(client);

    @AfterEach
    void close() {
        client.close();
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
                // time runs on before each of them has come; without a limit the last would be a quarter of an hour
                assertThat(at.get(i) - at.get(i - 1)).isBetween(nominal / 2, nominal * 3 / 2 + 60_000);
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
        elections.assertTold(ELECTED, RESIGNED);
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
                List.of(new LockServerException("no", ASKED, null), new LockLostException("no", ASKED, null))) {
            elections.tokens = hold -> Mono.error(passing);
            Elections.Idle idle = elections.new Idle();
            FakeClient.until("a release", () -> client.locks.live() == 0 && client.sessions.size() > 0);
            assertThat(client.newest().held()).isEmpty();
            elections.tokens = tokens;
            idle.untilLeader(1);
            idle.call.dispose();
        }
        elections.assertTold(ELECTED, RESIGNED, ELECTED, RESIGNED);
        for (RuntimeException last : List.of(
                new IllegalStateException("unsafe"), new IllegalArgumentException("no"), new ArithmeticException())) {
            elections.tokens = hold -> Mono.error(last);
            assertEndsWith(last);
            elections.tokens = hold -> {
                throw last;
            };
            assertEndsWith(last);
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
        elections.assertTold(ELECTED, LOST);
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

    private void assertEndsWith(Throwable error) {
        StepVerifier.create(elections.lead(leadership -> Flux.never()))
                .expectErrorSatisfies(told -> assertThat(told).isSameAs(error))
                .verify(Duration.ofSeconds(10));
        client.assertRest();
    }
}

package io.r2lock;

import static io.r2lock.SessionCall.Answer.FAILED;
import static io.r2lock.SessionCall.Answer.GRANTED;
import static io.r2lock.SessionCall.Answer.RELEASED;
import static io.r2lock.SessionCalls.lock;
import static io.r2lock.SessionCalls.unlock;
import static org.assertj.core.api.Assertions.assertThat;

import io.r2dbc.spi.R2dbcTimeoutException;
import io.r2lock.SessionCalls.Call;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.slf4j.event.Level;
import reactor.test.scheduler.VirtualTimeScheduler;

/** What a failed message, a dead connection and a silent server come to; step by step, without a server. */
class SessionFailureTest {

    private static final LockKey A = LockKey.of(1);
    private static final LockKey B = LockKey.of(2);
    private static final LockKey C = LockKey.of(3);
    private static final LockKey D = LockKey.of(4);

    @RegisterExtension
    final NoResidue residue = NoResidue.on();

    private final VirtualTimeScheduler clock = VirtualTimeScheduler.create();
    private final FakeSession server = new FakeSession();
    private final SessionCalls calls = new SessionCalls();
    private final SessionConnection connection = new SessionConnection(server.wire(), 7, clock, calls);

    @AfterEach
    void dispose() {
        clock.dispose();
    }

    /** Two messages of one call each: what is asked for now shares the next one. */
    private void fillTheWire() {
        lock(connection, LockKey.of(50));
        lock(connection, LockKey.of(51));
    }

    @Test
    void aFailedBatch_isReconciledBeforeAnybodyIsAnswered_andRepeatedOneByOne() {
        lock(connection, A);
        server.answerAll();
        fillTheWire();
        Call release = unlock(connection, A);
        Call b = lock(connection, B);
        Call c = lock(connection, C);
        Call d = lock(connection, D);
        // of that message two calls are done; 4 reads, 5 and 6 unlock, 7 is the first repeat
        server.failures = number -> number == 3
                ? new FakeSession.Failure(2, SessionCalls.error("53200"))
                : number == 7 ? new FakeSession.Failure(0, SessionCalls.error("53200")) : null;
        server.answer();
        server.answer();
        server.answer();
        assertThat(List.of(release, b, c, d)).noneMatch(Call::isAnswered);
        assertThat(server.held().keySet()).extracting(SessionClaims.Held::key).contains(B);
        assertThat(server.messages.get(4)).isEqualTo(SessionSql.SESSION_LOCKS);
        server.answer();
        assertThat(server.messages.get(5)).contains("pg_advisory_unlock('2')");
        server.answer();
        assertThat(List.of(release, b, c, d)).noneMatch(Call::isAnswered);
        server.answerAll();
        assertThat(release.answer).isEqualTo(RELEASED);
        assertThat(b.sqlState()).as("the first repeat").isEqualTo("53200");
        assertThat(c.answer).isEqualTo(GRANTED);
        assertThat(d.answer).isEqualTo(GRANTED);
        assertThat(server.held().keySet())
                .extracting(SessionClaims.Held::key)
                .containsExactlyInAnyOrder(LockKey.of(50), LockKey.of(51), C, D);
        assertThat(connection.claims().held()).isEqualTo(4);
        assertThat(calls.lost).isEmpty();
    }

    @Test
    void aFailure_withASecondBatchInFlight_waitsForThatAndKeepsItsAnswers() {
        server.failures = number -> number == 0 ? new FakeSession.Failure(1, SessionCalls.error("57014")) : null;
        Call a = lock(connection, A);
        Call b = lock(connection, B);
        Call c = lock(connection, C);
        server.answer();
        assertThat(server.inFlight()).isEqualTo(1);
        server.answer();
        assertThat(b.answer).isEqualTo(GRANTED);
        assertThat(a.isAnswered()).isFalse();
        assertThat(server.messages)
                .as("one call alone needs no reading")
                .hasSize(3)
                .last()
                .isEqualTo("SELECT CASE WHEN pg_advisory_unlock('1') THEN '1' ELSE '0' END");
        server.answerAll();
        assertThat(a.sqlState()).isEqualTo("57014");
        assertThat(c.answer).isEqualTo(GRANTED);
        assertThat(server.held().keySet()).extracting(SessionClaims.Held::key).containsExactlyInAnyOrder(B, C);
    }

    @Test
    void reconciling_findsLosses() {
        lock(connection, A);
        lock(connection, B);
        server.answerAll();
        server.forget(A);
        server.failures = number -> number == 4 ? new FakeSession.Failure(0, SessionCalls.error("57014")) : null;
        fillTheWire();
        List<Call> both = List.of(lock(connection, C), lock(connection, D));
        server.answerAll();
        assertThat(calls.lost).containsExactly(A);
        assertThat(both).allMatch(call -> call.answer == GRANTED);
        assertThat(connection.claims().held()).isEqualTo(server.held().size());
    }

    @Test
    void aReconciliationThatFails_endsTheConnection() {
        server.failures = number -> number > 1 ? new FakeSession.Failure(0, SessionCalls.error("57014")) : null;
        fillTheWire();
        List<Call> both = List.of(lock(connection, B), lock(connection, C));
        server.answerAll();
        assertThat(both).allMatch(call -> call.answer == FAILED);
        assertThat(calls.ends).hasSize(1);
        assertThat(server.closes).hasValue(1);
    }

    @Test
    void aDeadConnection_isToldFirst_soThatWhoFailsFindsNoneThatIsOpen_andEverythingOnce() {
        List<String> order = new CopyOnWriteArrayList<>();
        SessionConnection dying = new SessionConnection(server.wire(), 7, clock, new SessionConnection.Listener() {
            @Override
            public void lost(LockKey key, LockMode mode) {
                order.add("lost");
            }

            @Override
            public void ended(Throwable why) {
                order.add("ended " + why.getMessage());
            }
        });
        lock(dying, A);
        server.answerAll();
        lock(dying, B);
        for (LockKey key : List.of(C, D, D)) {
            dying.lock(key, LockMode.EXCLUSIVE, (answer, error) -> order.add(key + " " + answer));
        }
        dying.unlock(A, LockMode.EXCLUSIVE, (answer, error) -> order.add(A + " " + answer));
        server.breaks(SessionCalls.error("08006"));

        assertThat(order).hasSize(5).first().isEqualTo("ended as the server says");
        assertThat(order.subList(1, 5)).allMatch(line -> line.endsWith("FAILED"));
        assertThat(lock(dying, B).answer).isEqualTo(FAILED);
        assertThat(unlock(dying, A).answer).isEqualTo(FAILED);
        assertThat(dying.claims().keys()).isZero();
    }

    @Test
    void aMessageWithoutAnAnswer_endsTheConnectionAfterTheDeadline() {
        residue.allowLog(Level.WARN, "io.r2lock.SessionConnection");
        Call call = lock(connection, A);
        clock.advanceTimeBy(Duration.ofSeconds(LockConnection.STOP_DEADLINE_SECONDS));
        assertThat(call.isAnswered())
                .as("perhaps it is this process that stood still")
                .isFalse();
        clock.advanceTimeBy(Duration.ofMillis(BatchFlight.SECOND_LOOK_MILLIS));

        assertThat(call.error).isInstanceOf(R2dbcTimeoutException.class);
        assertThat(calls.ends).hasSize(1);
        assertThat(server.closes).hasValue(1);
    }

    @Test
    void answersInTime_keepTheConnection() {
        for (int i = 0; i < 10; i++) {
            lock(connection, LockKey.of(i));
            clock.advanceTimeBy(Duration.ofSeconds(LockConnection.STOP_DEADLINE_SECONDS - 1));
            server.answerAll();
        }
        clock.advanceTimeBy(Duration.ofMinutes(1));
        assertThat(calls.ends).isEmpty();
        assertThat(connection.claims().held()).isEqualTo(10);
    }

    @Test
    void aShortAnswer_endsTheConnection() {
        FakeSession.Failure cut = new FakeSession.Failure(0, new IllegalStateException("no SQLSTATE"));
        server.failures = number -> cut;
        Call call = lock(connection, A);
        server.answerAll();
        assertThat(call.answer).isEqualTo(FAILED);
        assertThat(calls.ends).hasSize(1);
    }
}

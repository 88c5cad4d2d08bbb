package io.r2lock;

import static io.r2lock.SessionCall.Answer.CLAIMED;
import static io.r2lock.SessionCall.Answer.GRANTED;
import static io.r2lock.SessionCall.Answer.NOT_HELD;
import static io.r2lock.SessionCall.Answer.RELEASED;
import static io.r2lock.SessionCalls.lock;
import static io.r2lock.SessionCalls.unlock;
import static org.assertj.core.api.Assertions.assertThat;

import io.r2lock.SessionCalls.Call;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import reactor.core.publisher.Hooks;
import reactor.test.scheduler.VirtualTimeScheduler;

/** Which calls share a message, and who is told what; step by step, without a server. */
class SessionConnectionTest {

    private static final LockKey A = LockKey.of(1);
    private static final LockKey B = LockKey.of(2);

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

    private static List<LockKey> keys(int from, int to) {
        return IntStream.range(from, to).mapToObj(LockKey::of).toList();
    }

    @Test
    void anIdleConnection_sendsACallAtOnceAndAlone() {
        Call call = lock(connection, A);

        assertThat(server.messages).containsExactly("SELECT CASE WHEN pg_try_advisory_lock('1') THEN '1' ELSE '0' END");
        assertThat(call.isAnswered()).isFalse();
        server.answer();
        assertThat(call.answer).isEqualTo(GRANTED);
        assertThat(connection.claims().held()).isEqualTo(1);
    }

    @Test
    void callsThatArriveInFlight_shareTheNextMessage() {
        lock(connection, A);
        lock(connection, B);
        List<Call> more =
                keys(10, 20).stream().map(key -> lock(connection, key)).toList();

        assertThat(server.inFlight()).isEqualTo(2);
        server.answer();
        assertThat(server.messages).hasSize(3);
        assertThat(FakeSession.keys(server.messages.get(2))).containsExactlyElementsOf(keys(10, 20));
        server.answerAll();
        assertThat(more).allMatch(call -> call.answer == GRANTED);
        assertThat(server.mostInFlight).hasValue(2);
    }

    @Test
    void unlocksStandBeforeLocks_andAMessageIsBounded() {
        keys(0, 5).forEach(key -> lock(connection, key));
        server.answerAll();
        lock(connection, LockKey.of(100));
        lock(connection, LockKey.of(101));
        keys(1_000, 3_000).forEach(key -> lock(connection, key));
        keys(0, 5).forEach(key -> unlock(connection, key));
        int before = server.messages.size();
        server.answer();

        String next = server.messages.get(before);
        assertThat(next).startsWith("SELECT string_agg(CASE WHEN pg_advisory_unlock(k)");
        assertThat(FakeSession.keys(next)).hasSize(SessionQueue.LARGEST_BATCH).startsWith(LockKey.of(0));
        server.answerAll();
        assertThat(connection.claims().held()).isEqualTo(2_002);
        assertThat(server.held()).hasSize(2_002);
    }

    @Test
    void callsForOneKey_takeTheirTurnsInOrder() {
        Call first = lock(connection, A);
        Call busy = lock(connection, A);
        Call release = unlock(connection, A);
        Call second = lock(connection, A, LockMode.SHARED);
        lock(connection, B);
        assertThat(server.inFlight()).isEqualTo(2);
        server.answer();
        assertThat(first.answer).isEqualTo(GRANTED);
        assertThat(busy.answer).as("held by this session, so not asked").isEqualTo(CLAIMED);
        assertThat(release.isAnswered()).isFalse();
        server.answerAll();
        assertThat(release.answer).isEqualTo(RELEASED);
        assertThat(second.answer).isEqualTo(GRANTED);
        assertThat(server.messages).hasSize(4);
    }

    @Test
    void manyCallsForOneKey_overflowNoStack() {
        List<Call> many =
                IntStream.range(0, 100_000).mapToObj(i -> lock(connection, A)).toList();
        server.answerAll();
        assertThat(many.get(0).answer).isEqualTo(GRANTED);
        assertThat(many.subList(1, many.size())).allMatch(call -> call.answer == CLAIMED);
        unlock(connection, A);
        server.answerAll();
        assertThat(connection.claims().keys()).isZero();
    }

    @Test
    void unlockOfWhatIsNotHeld_isALoss() {
        assertThat(unlock(connection, A).answer).as("never claimed").isEqualTo(NOT_HELD);
        lock(connection, A);
        server.answerAll();
        assertThat(unlock(connection, A, LockMode.SHARED).answer)
                .as("other mode")
                .isEqualTo(NOT_HELD);
        server.forget(A);
        Call release = unlock(connection, A);
        server.answerAll();
        assertThat(release.answer).isEqualTo(NOT_HELD);
        assertThat(connection.claims().keys()).isZero();
    }

    @Test
    void aCallerThatThrows_isReported_andKeepsNobodyFromTheirAnswers() {
        List<Throwable> dropped = new ArrayList<>();
        residue.allowDroppedErrors();
        Hooks.resetOnErrorDropped();
        Hooks.onErrorDropped(dropped::add);
        connection.lock(A, LockMode.EXCLUSIVE, (answer, error) -> {
            throw new IllegalStateException("caller");
        });
        Call b = lock(connection, B);
        server.answerAll();
        assertThat(b.answer).isEqualTo(GRANTED);
        assertThat(dropped).hasSize(1);
    }

    @Test
    void whatACallerAsksForWhenTold_goesIntoTheNextMessage() {
        keys(0, 100)
                .forEach(key -> connection.lock(
                        key,
                        LockMode.EXCLUSIVE,
                        (answer, error) -> connection.unlock(key, LockMode.EXCLUSIVE, (a, e) -> {})));
        server.answerAll();
        assertThat(server.held()).isEmpty();
        assertThat(server.messages.size())
                .as("1, 1 and 98 locks, with the unlocks among them")
                .isLessThanOrEqualTo(5);
    }
}

package io.r2lock;

import static io.r2lock.TestClients.PATIENCE;
import static io.r2lock.TestClients.acquire;
import static io.r2lock.TestClients.release;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.time.Duration;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;

/**
 * Requests for several keys wait in one order in every process: nobody waits for a key while it holds a later one, also where that
 * is one which its process has already.
 */
class SessionOrderIT {

    private static final LockKey A = LockKey.of(1_201);
    private static final LockKey B = LockKey.of(1_202);
    private static final LockKey C = LockKey.of(1_203);

    private final TestServer server = TestServer.newest();
    private final Sessions sessions = new Sessions(server);

    @RegisterExtension
    @Order(2)
    final NoResidue residue = NoResidue.on(server);

    @RegisterExtension
    @Order(1)
    final TestClients clients = new TestClients(residue);

    private DefaultAdvisoryLocks here;
    private DefaultAdvisoryLocks there;

    @BeforeEach
    void setUp() {
        here = clients.open(server);
        there = clients.open(server);
    }

    @AfterEach
    void close() {
        sessions.close();
    }

    private static CompletableFuture<Integer> call(LockRequest request) {
        return request.inSession().guard(Mono.just(1)).toFuture();
    }

    @Test
    void aTransactionInsideASession_mustWaitWithABound_asPostgresSeesNoCycleThere() {
        for (LockRequest unbounded :
                List.of(here.exclusive(B), here.exclusive(B).requireNew())) {
            assertThatThrownBy(() -> here.exclusive(A)
                            .inSession()
                            .guard(unbounded.guard(Mono.just(1)))
                            .block(PATIENCE))
                    .isInstanceOf(IllegalArgumentException.class)
                    .hasMessageContainingAll("wait must be bounded", B.toString());
        }
    }

    /** What the holder leaves would be taken over by one that still needs an earlier key, which the other process has. */
    @ParameterizedTest
    @ValueSource(booleans = {false, true})
    void whoNeedsAnEarlierKey_doesNotTakeOverALaterOne(boolean polls) {
        HeldLock hold = acquire(here.exclusive(B).inSession());
        LockRequest both = here.exclusive(A, B);
        CompletableFuture<Integer> mine = call(polls ? both.polling() : both);
        CompletableFuture<Integer> theirs = call(there.exclusive(A, B));
        sessions.awaitWaiting(1);

        release(hold);
        assertThat(theirs).succeedsWithin(PATIENCE).isEqualTo(1);
        assertThat(mine).succeedsWithin(PATIENCE).isEqualTo(1);
    }

    @ParameterizedTest
    @ValueSource(booleans = {false, true})
    void whoNeedsAnEarlierKey_doesNotShareALaterOne(boolean polls) {
        HeldLock hold = acquire(here.shared(B).inSession());
        CompletableFuture<Integer> theirs = call(there.exclusive(A, B));
        sessions.awaitWaiting(1);
        LockRequest both = here.shared(A, B);
        CompletableFuture<Integer> mine = call(polls ? both.polling() : both);
        if (!polls) {
            sessions.awaitWaiting(2);
        }

        release(hold);
        assertThat(theirs).succeedsWithin(PATIENCE).isEqualTo(1);
        assertThat(mine).succeedsWithin(PATIENCE).isEqualTo(1);
    }

    @Test
    void manyRequestsForSeveralKeys_inBothModesAndScopes_allEnd() {
        LockKey[][] sets = {{A, B}, {B, C}, {A, C}, {C}, {B}, {A, B, C}, {A}};
        Long done = Flux.range(0, 700)
                .flatMap(
                        i -> {
                            DefaultAdvisoryLocks client = i % 2 == 0 ? here : there;
                            List<LockKey> keys = List.of(sets[i % sets.length]);
                            LockRequest request = i % 3 == 0 ? client.shared(keys) : client.exclusive(keys);
                            return (i % 5 == 0 ? request.inTransaction() : request.inSession())
                                    .guard(Mono.delay(Duration.ofNanos(300_000)));
                        },
                        40)
                .count()
                .block(PATIENCE.multipliedBy(2));
        assertThat(done).isEqualTo(700);
    }
}

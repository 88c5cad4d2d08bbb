package io.r2lock;

import static io.r2lock.TestClients.PATIENCE;
import static io.r2lock.TestClients.acquire;
import static io.r2lock.TestClients.holdElsewhere;
import static io.r2lock.TestClients.release;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.r2dbc.postgresql.api.PostgresqlConnection;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Objects;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;
import java.util.stream.Stream;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;

/** Tokens of a key grow from hold to hold, however it is taken. */
class FencingTokenIT {

    private static final LockKey A = LockKey.of(801);
    private static final LockKey B = LockKey.of(802);
    private static final LockKey C = LockKey.of(803);

    private final TestServer server = TestServer.newest();

    @RegisterExtension
    @Order(2)
    final NoResidue residue = NoResidue.on(server);

    @RegisterExtension
    @Order(1)
    final TestClients clients = new TestClients(residue);

    private enum Scope {
        TRANSACTION,
        SESSION;

        LockRequest in(LockRequest request) {
            return this == SESSION ? request.inSession() : request.inTransaction();
        }
    }

    private static FencingToken token(HeldLock hold) {
        return Objects.requireNonNull(hold.fencingToken().block(PATIENCE));
    }

    /** The tokens of so many holds, in the order of the holds. */
    private static List<FencingToken> tokens(int holds, Function<Integer, LockRequest> requests) {
        List<FencingToken> tokens = Collections.synchronizedList(new ArrayList<>());
        Flux.range(0, holds)
                .flatMap(
                        i -> requests.apply(i)
                                .guard((HeldLock hold) -> hold.fencingToken()
                                        .doOnNext(tokens::add)
                                        .then()),
                        holds)
                .blockLast(PATIENCE);
        return tokens;
    }

    private static void assertGrowing(List<FencingToken> tokens, int count) {
        assertThat(tokens).hasSize(count).doesNotHaveDuplicates().isSorted();
    }

    @ParameterizedTest
    @EnumSource
    void tokensGrow_overHandOffsAmongManyWaitersOfOneProcess(Scope scope) {
        DefaultAdvisoryLocks locks = clients.open(server);
        assertGrowing(tokens(500, i -> scope.in(locks.exclusive(A))), 500);
    }

    @ParameterizedTest
    @EnumSource
    void tokensGrow_overTwoClients(Scope scope) {
        List<DefaultAdvisoryLocks> both =
                Stream.of(1, 2).map(i -> clients.open(server)).toList();
        assertGrowing(tokens(400, i -> scope.in(both.get(i % 2).exclusive(A))), 400);
    }

    @Test
    void tokensGrow_overBothScopes_andSeveralKeysOnSeveralSessions() {
        DefaultAdvisoryLocks inSession = clients.open(server, options -> options.sessionConnections(3));
        DefaultAdvisoryLocks inTransaction = clients.open(server);
        assertGrowing(
                tokens(
                        300,
                        i -> i % 3 == 0
                                ? inTransaction.exclusive(A, B, C)
                                : inSession.exclusive(A, B, C).inSession()),
                300);
    }

    @Test
    void rollbackThatCancelsAnUnansweredQuestion_isTheEndOfTheHold() {
        HeldLock hold = acquire(clients.open(server).exclusive(A));
        // the question is behind it on the wire, and so it is what is on the server when the rollback cancels
        CompletableFuture<Void> sleeps =
                TestClients.execute(hold, "select pg_sleep(30)").toFuture();
        CompletableFuture<FencingToken> token = hold.fencingToken().toFuture();
        release(hold);
        assertThatThrownBy(() -> token.orTimeout(20, TimeUnit.SECONDS).join())
                .hasCauseInstanceOf(LockLostException.class);
        assertThatThrownBy(() -> sleeps.orTimeout(20, TimeUnit.SECONDS).join()).isNotNull();
    }

    @ParameterizedTest
    @EnumSource
    void aHoldHasOneToken_andNoneOnceItHasEnded(Scope scope) {
        HeldLock hold = acquire(scope.in(clients.open(server).exclusive(A)));
        Mono<FencingToken> token = hold.fencingToken();
        FencingToken first = Objects.requireNonNull(token.block(PATIENCE));
        assertThat(first.asLong()).isPositive();
        assertThat(token.block(PATIENCE)).isSameAs(first);
        assertThat(token(hold)).isSameAs(first);
        release(hold);
        assertThatThrownBy(() -> token.block(PATIENCE))
                .isInstanceOf(LockLostException.class)
                .hasMessageContaining("has ended, and gets no fencing token");
    }

    @Test
    void inTransactionScope_itIsTheTransactionsId() {
        List<Object> ids = clients.open(server)
                .exclusive(A)
                .guard(hold -> hold.fencingToken()
                        .flatMap(token -> NestingClients.one(
                                        hold.connection(), "select pg_current_xact_id_if_assigned()::text")
                                .map(id -> List.<Object>of(id, Long.toString(token.asLong())))))
                .block(PATIENCE);
        assertThat(ids).hasSize(2).containsOnly(Objects.requireNonNull(ids).get(0));
    }

    @ParameterizedTest
    @EnumSource
    void aReadersToken_isBetweenThoseOfTheWritersAroundIt(Scope scope) {
        DefaultAdvisoryLocks locks = clients.open(server);
        FencingToken before = tokens(1, i -> scope.in(locks.exclusive(A))).get(0);
        List<FencingToken> readers = tokens(20, i -> scope.in(locks.shared(A)));
        FencingToken after = tokens(1, i -> scope.in(locks.exclusive(A))).get(0);
        assertThat(readers)
                .allSatisfy(reader -> assertThat(reader).isGreaterThan(before).isLessThan(after));
    }

    @Test
    void aKeyThatWasWaitedFor_hasATokenFromTheConnectionThatHoldsIt() {
        DefaultAdvisoryLocks locks = clients.open(server);
        try (Sessions sessions = new Sessions(server)) {
            PostgresqlConnection elsewhere = holdElsewhere(sessions, A.value());
            CompletableFuture<HeldLock> waiting =
                    locks.exclusive(A, B).inSession().acquire().toFuture();
            sessions.awaitWaiting(1);
            long earlier = Long.parseLong(
                    Sessions.ask(elsewhere, "select pg_current_xact_id()::text").get(0));
            TestClients.free(elsewhere, A.value());
            HeldLock hold = waiting.join();
            assertThat(((SessionHold) hold).backendPids()).hasSize(2);
            assertThat(token(hold).asLong()).isGreaterThan(earlier);
            release(hold);
        }
    }

    @Test
    void aPermitHasNone() {
        HeldLock permit = acquire(clients.open(server).permit(A, 2));
        assertThatThrownBy(() -> token(permit))
                .isInstanceOf(IllegalStateException.class)
                .hasMessageContaining("permits are held side by side");
        release(permit);
    }
}

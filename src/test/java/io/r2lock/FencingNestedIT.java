package io.r2lock;

import static io.r2lock.NestingClients.PATIENCE;
import static io.r2lock.NestingClients.get;
import static io.r2lock.NestingClients.run;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.time.Duration;
import java.util.List;
import java.util.function.UnaryOperator;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.slf4j.event.Level;
import reactor.core.publisher.Mono;

/** Tokens of holds inside others: whose they are, and where there can be none. */
class FencingNestedIT {

    private static final LockKey A = LockKey.of(811);
    private static final LockKey B = LockKey.of(812);
    private static final LockKey C = LockKey.of(813);
    private static final String ID = "select pg_current_xact_id()";

    private final TestServer server = TestServer.newest();

    @RegisterExtension
    @Order(1)
    final NestingClients clients = new NestingClients();

    @RegisterExtension
    @Order(2)
    final NoResidue residue = NoResidue.on(server);

    private DefaultAdvisoryLocks locks;
    private DefaultAdvisoryLocks elsewhere;

    @BeforeEach
    void prepare() {
        locks = clients.on(server, residue);
        elsewhere = clients.on(server, residue);
    }

    /** The token of a hold of this key that another process has taken and released. */
    private Mono<FencingToken> others(LockKey key) {
        return elsewhere.exclusive(key).guard(HeldLock::fencingToken);
    }

    private Mono<FencingToken> nested(LockKey... keys) {
        return locks.exclusive(List.of(keys)).guard(HeldLock::fencingToken);
    }

    @ParameterizedTest
    @ValueSource(booleans = {true, false})
    void theSameKeyAgain_hasTheTokenOfTheHoldAroundIt(boolean inSession) {
        LockRequest outer = inSession ? locks.exclusive(A).inSession() : locks.exclusive(A);
        get(outer.guard(hold -> nested(A)
                .zipWith(hold.fencingToken())
                .doOnNext(both -> assertThat(both.getT1()).isEqualTo(both.getT2()))));
    }

    @ParameterizedTest
    @ValueSource(booleans = {true, false})
    void aNewKey_hasTheTransactionsToken_ifThatHadNoIdBefore(boolean waits) {
        UnaryOperator<LockRequest> wait = request -> waits ? request : request.noWait();
        FencingToken earlier = get(others(B));
        FencingToken token = get(locks.exclusive(A)
                .guard(hold -> wait.apply(locks.exclusive(B))
                        .guard(HeldLock::fencingToken)
                        .flatMap(inner -> hold.fencingToken()
                                .doOnNext(outer -> assertThat(outer).isEqualTo(inner)))));
        assertThat(token).isGreaterThan(earlier).isLessThan(get(others(B)));
    }

    @ParameterizedTest
    @ValueSource(booleans = {true, false})
    void aNewKey_hasNone_whereTheTransactionHadAnIdBefore(boolean waits) {
        UnaryOperator<LockRequest> wait = request -> waits ? request : request.noWait();
        get(locks.exclusive(A)
                .guard(hold -> NestingClients.one(hold.connection(), ID)
                        .flatMap(own -> others(B)
                                .flatMap(earlier -> wait.apply(locks.exclusive(B))
                                        .guard(inner -> {
                                            // what would go wrong: the later holder's number is the smaller one
                                            assertThat(Long.parseLong(own)).isLessThan(earlier.asLong());
                                            return refused(inner.fencingToken(), "had written before", "requireNew()");
                                        })))));
    }

    @Test
    void aNewKey_hasNone_whereATokenWasAskedForBefore_butTheFirstKeysStays() {
        get(locks.exclusive(A)
                .guard(hold -> hold.fencingToken()
                        .flatMap(first -> locks.exclusive(B)
                                .guard(inner -> refused(inner.fencingToken(), "had written before"))
                                .then(nested(A))
                                .doOnNext(again -> assertThat(again).isEqualTo(first)))));
    }

    @Test
    void requireNew_isTheWayOut() {
        FencingToken token = get(locks.exclusive(A)
                .guard(hold -> run(hold.connection(), ID)
                        .then(others(B))
                        .flatMap(earlier -> locks.exclusive(B)
                                .requireNew()
                                .waitAtMost(Duration.ofSeconds(10))
                                .guard(HeldLock::fencingToken)
                                .doOnNext(own -> assertThat(own).isGreaterThan(earlier)))));
        assertThat(token.asLong()).isPositive();
    }

    @Test
    void aJoinedHoldOfSeveralKeysOfOneTransaction_hasItsToken_andOfDifferentOnesNone() {
        get(locks.exclusive(A)
                .guard(hold -> locks.exclusive(B)
                        .guard(inner -> nested(A, B, C)
                                .flatMap(all -> hold.fencingToken()
                                        .doOnNext(outer -> assertThat(all).isEqualTo(outer))))));
        get(locks.exclusive(A)
                .inSession()
                .guard(session -> locks.exclusive(B)
                        .waitAtMost(Duration.ofSeconds(10))
                        .guard(transaction -> locks.exclusive(A, B)
                                .guard(both -> refused(both.fencingToken(), "different holds around it")))));
    }

    @Test
    void aDurableOne_isNotTakenFromAHoldWithout() {
        LockRequest durable = locks.exclusive(A).inSession().durableTokens();
        get(locks.exclusive(A)
                .inSession()
                .guard(hold ->
                        durable.guard(inner -> refused(inner.fencingToken(), "the hold that it joined was not"))));
        get(durable.guard(hold -> durable.guard(inner -> inner.fencingToken()
                .zipWith(hold.fencingToken())
                .doOnNext(both -> assertThat(both.getT1()).isEqualTo(both.getT2())))));
    }

    @Test
    void aKeyThatTheWorkFreed_hasNone() {
        residue.allowLog(Level.WARN, "io.r2lock.AdvisoryLocks"); // the loss
        assertThatThrownBy(() -> locks.exclusive(A)
                        .guard(hold -> run(hold.connection(), "savepoint early")
                                .then(locks.exclusive(B)
                                        .guard(inner -> run(hold.connection(), "rollback to early")
                                                .then(others(B))
                                                .then(lost(inner.fencingToken()))
                                                .then(lost(inner.fencingToken())))))
                        .block(PATIENCE))
                .isInstanceOf(LockLostException.class);
        assertThatThrownBy(() -> locks.exclusive(A)
                        .guard(hold -> run(hold.connection(), "commit and chain")
                                .then(others(A))
                                .then(lost(hold.fencingToken())))
                        .block(PATIENCE))
                .isInstanceOf(LockLostException.class);
        assertThatThrownBy(() -> locks.exclusive(A)
                        .guard(hold ->
                                run(hold.connection(), "commit").then(others(A)).then(lost(hold.fencingToken())))
                        .block(PATIENCE))
                .isInstanceOf(LockLostException.class);
    }

    @Test
    void anErrorOfTheServer_isAServerException() {
        assertThatThrownBy(() -> locks.exclusive(A)
                        .guard(hold -> run(hold.connection(), "select 1/0")
                                .onErrorComplete()
                                .then(hold.fencingToken()))
                        .block(PATIENCE))
                .isInstanceOf(LockServerException.class)
                .hasMessageContaining("No fencing token for the exclusive lock on")
                .hasMessageContaining("25P02");
    }

    @Test
    void itLeavesTheConnectionClean_andRunsBesideTheStatementsOfTheWork() {
        List<String> all = get(locks.exclusive(A)
                .guard(hold -> NestingClients.rows(hold.connection(), "select generate_series(1, 3), pg_sleep(0.05)")
                        .zipWith(hold.fencingToken(), (rows, token) -> rows)));
        assertThat(all).containsExactly("1", "2", "3");
    }

    private static Mono<String> refused(Mono<FencingToken> token, String... reasons) {
        return token.map(FencingToken::toString)
                .onErrorResume(IllegalStateException.class, error -> {
                    assertThat(error)
                            .hasMessageStartingWith("No fencing token for the ")
                            .satisfies(thrown -> assertThat(thrown.getMessage()).contains(reasons));
                    return Mono.just("refused");
                })
                .doOnNext(answer -> assertThat(answer).isEqualTo("refused"));
    }

    private static Mono<Void> lost(Mono<FencingToken> token) {
        return token.map(FencingToken::toString)
                .onErrorResume(LockLostException.class, error -> Mono.just("lost"))
                .doOnNext(answer -> assertThat(answer).isEqualTo("lost"))
                .then();
    }
}

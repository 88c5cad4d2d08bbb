package io.r2lock;

import static io.r2lock.TestClients.PATIENCE;
import static io.r2lock.TestClients.acquire;
import static io.r2lock.TestClients.free;
import static io.r2lock.TestClients.holdElsewhere;
import static io.r2lock.TestClients.release;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.r2dbc.postgresql.api.PostgresqlConnection;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;
import reactor.core.scheduler.Schedulers;

/** What only holds in session scope: one connection for many, which is nobody's to write on, and a release that is awaited. */
abstract class SessionContract extends GuardContract {

    private static final LockKey NUMBER = LockKey.of(1_101);
    private static final LockKey NEGATIVE = LockKey.of(-1_102);
    private static final LockKey PAIR = LockKey.of(11, 1_103);
    private static final LockKey NEGATIVE_PAIR = LockKey.of(-11, -1_104);

    SessionContract(TestServer server) {
        super(server, LockRequest::inSession);
    }

    @Test
    void connection_isRefused_withTheKeyAndTheWayOut() {
        HeldLock hold = acquire(exclusive(KEY, PAIR));
        assertThatThrownBy(hold::connection)
                .isInstanceOf(UnsupportedOperationException.class)
                .hasMessageContaining(KEY.toString())
                .hasMessageContaining(PAIR.toString())
                .hasMessageContaining("inTransaction()");
        release(hold);
    }

    @Test
    void holds_shareOneBackend_andEndOneByOne() {
        List<HeldLock> holds = IntStream.range(0, 20)
                .mapToObj(i -> acquire(exclusive(LockKey.of(2_000 + i))))
                .toList();
        assertThat(holds)
                .extracting(HeldLock::backendPid)
                .containsOnly(holds.get(0).backendPid());
        assertThat(server.count("select count(distinct pid) from pg_locks where locktype = 'advisory'"))
                .isOne();
        for (int left = holds.size(); left > 0; left--) {
            assertThat(held()).isEqualTo(left);
            release(holds.get(left - 1));
        }
        assertThat(held()).isZero();
    }

    private List<LockRequest> requests() {
        return List.of(
                exclusive(NUMBER),
                shared(NUMBER),
                exclusive(PAIR),
                shared(NEGATIVE_PAIR),
                exclusive(NUMBER, NEGATIVE, PAIR, NEGATIVE_PAIR),
                shared(NEGATIVE_PAIR, PAIR, NEGATIVE, NUMBER));
    }

    @Test
    void release_isAwaited_ofOneKeyOrMany_numbersOrPairs_exclusiveOrShared() {
        for (LockRequest request : requests()) {
            List<Long> seen = request.guard((HeldLock hold) ->
                            heldNow().map(during -> during - hold.keys().size()))
                    .publishOn(Schedulers.boundedElastic())
                    .map(wrong -> List.of(wrong, held()))
                    .block(PATIENCE);
            assertThat(seen).as(request.toString()).containsExactly(0L, 0L);

            HeldLock hold = acquire(request);
            assertThat(held()).as(request.toString()).isEqualTo(hold.keys().size());
            release(hold);
            assertThat(held()).as(request.toString()).isZero();
        }
    }

    @Test
    void release_isAwaited_whereTheKeyWasWaitedForOnTheServer() {
        try (Sessions sessions = new Sessions(server)) {
            PostgresqlConnection other = holdElsewhere(sessions, NUMBER.value());
            int shared = exclusive(NEGATIVE)
                    .guard((HeldLock hold) -> Mono.just(hold.backendPid()))
                    .blockOptional(PATIENCE)
                    .orElseThrow();
            CompletableFuture<HeldLock> waiting =
                    exclusive(NUMBER, NEGATIVE).acquire().toFuture();
            sessions.awaitWaiting(1);
            free(other, NUMBER.value());
            assertThat(waiting).succeedsWithin(PATIENCE);
            HeldLock hold = waiting.join();
            assertThat(held()).isEqualTo(2);
            assertThat(server.count("select count(*) from pg_locks where locktype = 'advisory' and pid = " + shared))
                    .as("the other one is held where waiting was")
                    .isOne();
            release(hold);
            assertThat(held()).isZero();
        }
    }

    @Test
    void release_isAwaited_byEachOfManyCallers() {
        Long wrong = Flux.range(0, 60)
                .flatMap(
                        i -> {
                            LockKey key = i % 2 == 0 ? LockKey.of(3_000 + i) : LockKey.of(3_000, i);
                            String free = "select count(*) from pg_locks where locktype = 'advisory' and objid = "
                                    + (key.value() & 0xffff_ffffL);
                            return exclusive(key)
                                    .guard(Mono.just(key))
                                    .publishOn(Schedulers.boundedElastic())
                                    .map(done -> server.count(free));
                        },
                        8)
                .reduce(0L, Long::sum)
                .block(PATIENCE);
        assertThat(wrong).isZero();
    }

    @Test
    void sharers_ofOneProcess_giveTheLockBackWithTheLastOne() {
        HeldLock first = acquire(shared(PAIR));
        HeldLock second = acquire(shared(PAIR));
        assertThat(held()).isOne();
        release(first);
        assertThat(held()).isOne();
        assertThatThrownBy(() -> acquire(exclusive(PAIR).noWait())).isInstanceOf(LockNotAvailableException.class);
        release(second);
        assertThat(held()).isZero();
    }
}

package io.r2lock;

import static io.r2lock.TestClients.PATIENCE;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.r2dbc.spi.Connection;
import io.r2dbc.spi.ConnectionFactory;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.slf4j.event.Level;
import reactor.core.publisher.Mono;
import reactor.core.publisher.Sinks;

/** The worked example of a guarded write: a holder that was overtaken changes nothing. */
class FencingRecipeIT {

    private static final LockKey DOCUMENT = LockKey.of(821);

    private final TestServer server = TestServer.newest();
    private final ConnectionFactory store = server.connectionFactory();

    @RegisterExtension
    @Order(2)
    final NoResidue residue = NoResidue.on(server);

    @RegisterExtension
    @Order(1)
    final TestClients clients = new TestClients(residue);

    @BeforeEach
    void create() {
        server.execute(
                "create table document (id bigint primary key, title text, token bigint not null default 0)",
                "insert into document values (1, 'new', 0)");
    }

    @AfterEach
    void drop() {
        server.execute("drop table document");
    }

    // tag::fencing[]
    Mono<Boolean> rename(AdvisoryLocks locks, LockKey key, String title) {
        return locks.exclusive(key)
                .inSession()
                .guard(hold -> hold.fencingToken().flatMap(token -> write(title, token)));
    }

    /** {@code false}: a later holder of the lock has written already. */
    Mono<Boolean> write(String title, FencingToken token) {
        return Mono.usingWhen(
                        store.create(),
                        connection -> Mono.from(connection
                                        .createStatement(
                                                "UPDATE document SET title = $1, token = $2 WHERE id = 1 AND token < $2")
                                        .bind("$1", title)
                                        .bind("$2", token.asLong())
                                        .execute())
                                .flatMap(result -> Mono.from(result.getRowsUpdated())),
                        Connection::close)
                .map(rows -> rows == 1);
    }
    // end::fencing[]

    @Test
    void aHolderThatWasPaused_andOvertaken_changesNothing() {
        residue.allowLog(Level.WARN, "io.r2lock.AdvisoryLocks"); // the loss
        DefaultAdvisoryLocks old = clients.open(server);
        DefaultAdvisoryLocks next = clients.open(server);
        Sinks.Empty<Void> pause = Sinks.empty();
        CompletableFuture<FencingToken> oldToken = new CompletableFuture<>();
        CompletableFuture<Integer> oldPid = new CompletableFuture<>();
        CompletableFuture<Boolean> lateWrite = new CompletableFuture<>();
        CompletableFuture<Boolean> paused = old.exclusive(DOCUMENT)
                .inSession()
                .guard((HeldLock hold) -> hold.fencingToken().flatMap(token -> {
                    oldPid.complete(hold.backendPid());
                    oldToken.complete(token);
                    // on its way already: a cancel of the work does not call it back
                    pause.asMono()
                            .then(write("old", token))
                            .subscribe(lateWrite::complete, lateWrite::completeExceptionally);
                    return Mono.<Boolean>never();
                }))
                .toFuture();
        FencingToken token = oldToken.orTimeout(20, TimeUnit.SECONDS).join();
        server.query("select pg_terminate_backend(" + oldPid.join() + ", 5000)");
        assertThatThrownBy(paused::join).hasCauseInstanceOf(LockLostException.class);
        assertThat(rename(next, DOCUMENT, "next").block(PATIENCE)).isTrue();
        pause.tryEmitEmpty().orThrow();
        assertThat(lateWrite.orTimeout(20, TimeUnit.SECONDS).join()).isFalse();
        assertThat(server.query("select title from document").get(0)).containsEntry("title", "next");
        assertThat(server.count("select token from document")).isGreaterThan(token.asLong());
    }
}

package io.r2lock.demo;

import io.r2dbc.spi.Connection;
import io.r2dbc.spi.Result;
import io.r2lock.AdvisoryLocks;
import io.r2lock.LockKey;
import org.springframework.web.bind.annotation.PathVariable;
import org.springframework.web.bind.annotation.PostMapping;
import org.springframework.web.bind.annotation.RestController;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;

/**
 * Processes each delivery once, however often and on how many instances it arrives.
 *
 * <p>The row that says "processed" is written in the transaction that holds the lock: it is there if, and only if, the work
 * succeeded, and the next holder of the lock sees it. A caller that hangs up cancels the work and rolls the row back.
 */
@RestController
final class WebhookController {

    private final AdvisoryLocks locks;
    private final DemoProperties properties;

    WebhookController(AdvisoryLocks locks, DemoProperties properties) {
        this.locks = locks;
        this.properties = properties;
    }

    /** What a delivery is answered. */
    record Answer(String id, String result) {}

    @PostMapping("/webhooks/{id}")
    Mono<Answer> deliver(@PathVariable String id) {
        Names.check("id", id);
        return locks.exclusive(LockKey.named("webhook", id))
                .waitAtMost(properties.webhook().patience())
                .guard(hold -> register(hold.connection(), id)
                        .flatMap(isNew -> isNew ? work().thenReturn("processed") : Mono.just("already processed")))
                .map(result -> new Answer(id, result));
    }

    /** Tells whether this delivery is the first one. */
    private Mono<Boolean> register(Connection connection, String id) {
        return Flux.from(connection
                        .createStatement(
                                "insert into webhook_deliveries (id, instance) values ($1, $2) on conflict do nothing")
                        .bind("$1", id)
                        .bind("$2", properties.instance())
                        .execute())
                .flatMap(Result::getRowsUpdated)
                .single()
                .map(inserted -> inserted == 1);
    }

    /** Stands for a call to somebody else's service. */
    private Mono<Long> work() {
        return Mono.delay(properties.webhook().work());
    }
}

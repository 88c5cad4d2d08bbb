package io.r2lock;

import java.util.Collection;
import org.jspecify.annotations.Nullable;
import reactor.core.publisher.Mono;
import reactor.core.publisher.MonoSink;

/**
 * Asks for the id of a hold's transaction, in its {@link Lane} beside the statements of the work; leaves nothing in the session.
 *
 * <p>Where a statement of the work may have freed the keys, the server assigns no id unless they are still held: one that is assigned
 * later could be larger than the next holder's. Such a statement may be sent from another thread just before this one is, so it is
 * looked for again behind the answer.
 */
final class TokenStatement implements TextExchange.Listener {

    /** Instead of what {@link Lane#freeing} was: the keys may be freed without a statement in the lane. */
    static final int ANY_TIME = -1;

    private final Hold asking;
    private final SqlHold transaction;
    private final Collection<LockKey> keys;
    private final int freeingBefore;
    private final MonoSink<String> told;
    private final Waiter place;
    private boolean checks;
    private String id = "";

    private TokenStatement(
            Hold asking, SqlHold transaction, Collection<LockKey> keys, int freeingBefore, MonoSink<String> told) {
        this.asking = asking;
        this.transaction = transaction;
        this.keys = keys;
        this.freeingBefore = freeingBefore;
        this.told = told;
        this.place = transaction.lane().place(LockMode.SHARED, turn -> send());
    }

    /** The token of a hold that took the keys in the transaction, when {@link Lane#freeing} was as given. */
    static Mono<FencingToken> ask(Hold asking, SqlHold transaction, Collection<LockKey> keys, int freeingBefore) {
        return Mono.<String>create(told -> new TokenStatement(asking, transaction, keys, freeingBefore, told).begin())
                .map(FencingToken::parse);
    }

    private void begin() {
        if (transaction.lane().enter(place)) {
            send();
        }
    }

    private void send() {
        // the lane's rule: entered first, the hold looked at after
        if (!transaction.isLive() || !transaction.isUsable()) {
            leave();
            told.error(asking.lost("it ended before its fencing token was known", null));
            return;
        }
        checks = mayBeFree();
        id = "";
        TextExchange.ask(transaction.wire(), checks ? LockSql.tokenIfHeld(keys, asking.mode()) : LockSql.TOKEN, this);
    }

    private boolean mayBeFree() {
        return transaction.lane().freeing() != freeingBefore;
    }

    private void leave() {
        transaction.lane().leave(place);
    }

    @Override
    public void text(int statement, String text) {
        id = text;
    }

    @Override
    public void ended(@Nullable Throwable error) {
        if (error == null && !checks && mayBeFree()) {
            send();
            return;
        }
        if (error != null && SqlStates.endsConnection(error)) {
            // first, so that the work is told of the loss and not of what came of it
            transaction.lose("its fencing token found the connection gone: " + error.getMessage(), error);
        }
        leave();
        if (error != null) {
            told.error(HoldToken.failure(asking, error));
        } else if (id.isEmpty()) {
            told.error(asking.lost("a statement freed it, by COMMIT AND CHAIN say", null));
        } else {
            told.success(id);
        }
    }
}

package io.r2lock;

import java.util.ArrayList;
import java.util.List;
import reactor.core.publisher.Mono;

/**
 * The token of a hold that uses what those around it have: theirs. What it took itself in their transaction has that one's, unless
 * the transaction had an id before: another process may have held the key meanwhile, with a larger one.
 */
final class JoinedToken {

    /** Why there is none where the transaction is older than the lock. */
    static final String HAD_ID =
            "the transaction around it had written before it took the lock, so that the id of that transaction may be"
                    + " smaller than the token of an earlier holder. Ask for the lock with requireNew(), or before the"
                    + " transaction writes and before any fencing token in it is asked for.";

    private JoinedToken() {}

    static Mono<FencingToken> ask(JoinedHold hold, JoinedAcquire own) {
        if (own.hadIdBefore()) {
            return refused(hold, HAD_ID);
        }
        if (hold.spec.durableTokens() && !own.owners().stream().allMatch(owner -> owner.spec.durableTokens())) {
            return refused(hold, "it was asked for with durableTokens(), and the hold that it joined was not");
        }
        List<Mono<FencingToken>> tokens = new ArrayList<>();
        for (Hold owner : own.owners()) {
            tokens.add(owner.fencingToken());
        }
        if (!own.missing().isEmpty()) {
            tokens.add(TokenStatement.ask(hold, hold.taken(), own.missing(), hold.freeingBefore()));
        }
        return Mono.zip(tokens, all -> all)
                .flatMap(all -> one(all)
                        ? Mono.just((FencingToken) all[0])
                        : refused(
                                hold,
                                "its keys were taken by"
                                        + " different holds around it, each with a token of its own. Ask those holds, or for one key at a"
                                        + " time."));
    }

    private static boolean one(Object[] tokens) {
        for (Object token : tokens) {
            if (!token.equals(tokens[0])) {
                return false;
            }
        }
        return true;
    }

    static Mono<FencingToken> refused(Hold hold, String why) {
        return Mono.error(new IllegalStateException("No fencing token for the " + hold.attempt() + ": " + why));
    }
}

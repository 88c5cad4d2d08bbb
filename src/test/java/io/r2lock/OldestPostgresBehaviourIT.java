package io.r2lock;

class OldestPostgresBehaviourIT extends PostgresBehaviour {

    OldestPostgresBehaviourIT() {
        super(TestServer.oldest());
    }
}

package io.r2lock;

class PostgresBehaviourIT extends PostgresBehaviour {

    PostgresBehaviourIT() {
        super(TestServer.newest());
    }
}

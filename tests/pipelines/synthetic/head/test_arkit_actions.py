import numpy as np

from pipelines.synthetic.head.arkit_actions import (
    ACTIONS,
    MIRRORED,
    action_index,
    actions_to_gaze,
    gaze_to_actions,
    vector,
)


def test_actions_are_the_52_of_arkit_in_alphabetical_order() -> None:
    assert len(ACTIONS) == 52
    assert list(ACTIONS) == sorted(ACTIONS)
    assert {"browInnerUp", "eyeBlinkLeft", "jawOpen", "mouthSmileRight", "tongueOut"} <= set(ACTIONS)


def test_mirror_swaps_sides_and_leaves_the_middle() -> None:
    face = vector({"mouthSmileLeft": 0.4, "jawRight": 0.3, "eyeLookInLeft": 0.2, "jawOpen": 0.1})
    expected = vector({"mouthSmileRight": 0.4, "jawLeft": 0.3, "eyeLookInRight": 0.2, "jawOpen": 0.1})
    np.testing.assert_array_equal(face[MIRRORED], expected)
    np.testing.assert_array_equal(MIRRORED[MIRRORED], np.arange(52))


def test_name_without_a_side_is_both_sides() -> None:
    face = vector({"mouthSmile": 0.5, "mouthClose": 0.25})
    assert {ACTIONS[i]: float(face[i]) for i in np.flatnonzero(face)} == {
        "mouthSmileLeft": 0.5,
        "mouthSmileRight": 0.5,
        "mouthClose": 0.25,
    }


def test_both_eyes_look_to_the_same_side_and_can_be_read_back() -> None:
    gaze = np.array([[0.6, -0.3], [-0.5, 0.2]])
    actions = gaze_to_actions(gaze)
    # The picture's right is the person's left: the left eye turns out, the right one in.
    assert actions[0, action_index("eyeLookOutLeft")] == actions[0, action_index("eyeLookInRight")] == 0.6
    assert actions[0, action_index("eyeLookDownLeft")] == actions[0, action_index("eyeLookDownRight")] == 0.3
    assert actions[1, action_index("eyeLookInLeft")] == actions[1, action_index("eyeLookOutRight")] == 0.5
    assert np.count_nonzero(actions) == 8
    np.testing.assert_allclose(actions_to_gaze(actions), gaze)
